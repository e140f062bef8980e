"""The offline experiments that methods are tried on: data, teachers and a student each, small enough for a CPU."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgekd.context import Context, Progress
from edgekd.data import Dataset, Part, Parts, load_dataset
from edgekd.data.calibration_sets import set_signature
from edgekd.data.synthetic import shapes_seg, two_view
from edgekd.errors import InputError
from edgekd.metrics import METRICS, Metric
from edgekd.models.networks.resnet8 import ResNet8
from edgekd.models.signature import Signature, TensorSpec
from edgekd.models.source import Opening, open_model
from edgekd.target import load_target
from edgekd.training.settings import TrainingSettings

FASHION_TEACHER = Path("examples/fashion_mnist/model.pt")
FASHION_IMAGES = 400


@dataclass(frozen=True)
class Experiment:
    """What is tried: `part(seed)` is learned from, `evaluation` reports.

    `teachers` gives each teacher's network with its signature and how it is made: trained on its own part, or opened.
    `student()` makes a new network from torch's random state.
    """

    name: str
    title: str
    part: Callable[[int], Part]
    evaluation: Part
    student: Callable[[], nn.Module]
    teachers: Mapping[str, "TeacherRecipe"]
    settings: TrainingSettings
    metric: Metric
    teacher_part: Callable[[int], Part] | None = None
    augmented: bool = False


@dataclass(frozen=True)
class TeacherRecipe:
    """A teacher: a network to be trained on a part, or one that is ready; `change` is done to it then."""

    signature: Signature
    network: Callable[[], nn.Module]
    part: Part | None = None
    settings: TrainingSettings | None = None
    change: Callable[[nn.Module], nn.Module] | None = None


class Mlp(nn.Module):
    """A perceptron with one hidden layer, (N, ...) to (N, classes)."""

    def __init__(self, inputs: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.hidden = nn.Linear(inputs, hidden)
        self.relu = nn.ReLU()
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return self.head(self.relu(self.hidden(self.flatten(x))))


class Segmenter(nn.Module):
    """A small encoder and decoder, (N, 3, H, W) to (N, classes, H, W)."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, 2, 1), nn.ReLU()
        )
        self.middle = nn.Sequential(nn.Conv2d(2 * width, 2 * width, 3, 1, 1), nn.ReLU())
        self.up = nn.Upsample(scale_factor=4, mode="bilinear", align_corners=False)
        self.head = nn.Conv2d(2 * width, classes, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits a pixel."""
        return self.head(self.up(self.middle(self.down(x))))


class Wrong(nn.Module):
    """A classifier that is wrong on a share of all inputs, always the same ones: its answer is another class's.

    Which inputs these are is a pseudo-random function of their values.
    """

    mixing: Tensor

    def __init__(self, network: nn.Module, values: int, share: float) -> None:
        super().__init__()
        self.network, self.share = network, share
        random = np.random.default_rng(0).uniform(100, 1000, values)
        self.register_buffer("mixing", torch.from_numpy(random))

    def chosen(self, x: Tensor) -> Tensor:
        """Return which inputs (N, ...) it is wrong on, (N,)."""
        return (x.flatten(1).double() @ self.mixing).frac().abs() < self.share

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, C), of the wrong inputs each class's those of the class before it."""
        logits = self.network(x)
        return torch.where(self.chosen(x)[:, None], logits.roll(1, 1), logits)


def experiment(name: str) -> Experiment:
    """Return the experiment of that name.

    Raises:
        InputError: there is none, or its data or teacher are not at hand.
    """
    if name not in EXPERIMENTS:
        raise InputError(f"no data {name!r} for the bench; one of {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]()


def training_context(
    part: Part, evaluation: Part, metric: Metric, seed: int, *, threads: int = 1, progress: Progress | None = None
) -> Context:
    """Return the context of a training alone, on the CPU, outside a run directory."""
    return Context(
        target=load_target("generic-x86")[0],
        runtime_name="onnxruntime",
        signature=part.signature,
        parts=Parts(part, part, part, evaluation),
        metric=metric,
        teachers={},
        reference=None,
        other_part=lambda source, signature: part,
        seed=seed,
        device="cpu",
        threads=threads,
        workdir=Path(),
        log=lambda message: None,
        progress=progress or (lambda description, total: nullcontext(lambda steps: None)),
    )


def _split(dataset: Dataset, signature: Signature) -> tuple[Part, Part]:
    """Return what is trained on and what is held out."""
    assert dataset.held_out is not None
    return (
        Part(dataset, np.flatnonzero(~dataset.held_out), signature),
        Part(dataset, np.flatnonzero(dataset.held_out), signature),
    )


def _few(part: Part, count: int) -> Callable[[int], Part]:
    """Return a function of the seed that gives some samples, about the same number a class."""

    def chosen(seed: int) -> Part:
        random = np.random.default_rng(seed)
        targets = part.dataset.targets
        assert targets is not None
        order = random.permutation(part.indices)
        labels = targets[order]
        rank = np.empty(len(order), np.intp)
        for label in np.unique(labels):
            rank[labels == label] = np.arange((labels == label).sum())
        return replace(part, indices=order[np.argsort(rank, kind="stable")][:count])

    return chosen


def _few_labels(part: Part, count: int) -> Callable[[int], Part]:
    """Return a function of the seed that gives all samples, some of them labelled, about the same number a class."""
    labelled = _few(part, count)

    def chosen(seed: int) -> Part:
        targets = part.dataset.targets
        assert targets is not None
        known = np.full_like(targets, -1)
        indices = labelled(seed).indices
        known[indices] = targets[indices]
        return replace(part, dataset=replace(part.dataset, targets=known))

    return chosen


def _classifier(name: str, shape: tuple[int, ...]) -> Signature:
    return Signature(inputs=(TensorSpec(name=name, shape=("batch", *shape)),))


@cache
def _digits() -> tuple[Part, Part]:
    signature = set_signature("digits")
    return _split(load_dataset("digits", signature), signature)


def digits() -> Experiment:
    """200 labelled digits, a perceptron of 16 hidden units, and a teacher of 512 trained on all of them."""
    train, test = _digits()
    settings = TrainingSettings(epochs=60, batch_size=32, optimizer="adamw", learning_rate=5e-3, precision="float32")
    strong = settings.model_copy(update={"epochs": 30, "batch_size": 64, "learning_rate": 2e-3})
    return Experiment(
        "digits",
        "digits, 200 labels: perceptron of 16 hidden units, teacher of 512 trained on 1,297",
        _few(train, 200),
        test,
        lambda: Mlp(64, 16, 10),
        {"teacher": TeacherRecipe(train.signature, lambda: Mlp(64, 512, 10), train, strong)},
        settings,
        METRICS["accuracy"],
    )


def wrong_teacher() -> Experiment:
    """The same with a teacher that is wrong on 30 % of the images."""
    base = digits()
    teacher = replace(base.teachers["teacher"], change=lambda network: Wrong(network, 64, 0.3))
    title = "digits, 200 labels: perceptron of 16 hidden units, a teacher of 512 that is wrong on 30 % of all images"
    return replace(base, name="wrong-teacher", title=title, teachers={"teacher": teacher})


def half_experts() -> Experiment:
    """The same with two teachers, each of which has seen five of the digits only."""
    base = digits()
    train, _ = _digits()
    targets = train.targets
    assert targets is not None
    teacher = base.teachers["teacher"]
    experts = {
        name: replace(teacher, part=replace(train, indices=train.indices[chosen]))
        for name, chosen in (("low", targets < 5), ("high", targets >= 5))
    }
    title = "digits, 200 labels: perceptron of 16 hidden units, two teachers that know five digits each"
    return replace(base, name="half-experts", title=title, teachers=experts)


def shapes() -> Experiment:
    """Discs and squares with noise, segmented by a small convolutional network."""
    signature = Signature(inputs=(TensorSpec(name="image", shape=("batch", 3, 64, 64)),), task="segmentation")
    train, test = _split(shapes_seg(), signature)
    settings = TrainingSettings(epochs=80, batch_size=16, optimizer="adamw", learning_rate=5e-3, precision="float32")
    return Experiment(
        "shapes",
        "shapes-seg, 64 labelled images: segmenter of width 4, teacher of width 24 trained on all",
        lambda seed: replace(train, indices=np.random.default_rng(seed).permutation(train.indices)[:64]),
        test,
        lambda: Segmenter(4, 3),
        {"teacher": TeacherRecipe(signature, lambda: Segmenter(24, 3), train, settings)},
        settings,
        METRICS["miou"],
    )


def _views(*, paired: bool) -> Experiment:
    data = two_view(paired=paired)
    student, teacher = (_classifier(name, _size(data, name)) for name in ("b", "a"))
    classes = int(data.targets.max()) + 1 if data.targets is not None else 0
    train, test = _split(data, student)
    own = replace(
        data,
        inputs={"a": data.extras["a"]},
        targets=data.extras["a_targets"],
        extras={},
        origin=f"{data.origin}, view a",
    )
    strong, _ = _split(own, teacher)
    settings = TrainingSettings(epochs=40, batch_size=64, optimizer="adamw", learning_rate=3e-3, precision="float32")
    inputs = (int(np.prod(_size(data, "b"))), int(np.prod(_size(data, "a"))))
    return Experiment(
        "two-view" if paired else "two-view-shuffled",
        f"two-view, 300 labels{', 1,700 pairs without one' if paired else ', unpaired'}: the student sees b, the teacher a",
        _few_labels(train, 300) if paired else _few(train, 300),
        test,
        lambda: Mlp(inputs[0], 24, classes),
        {"teacher": TeacherRecipe(teacher, lambda: Mlp(inputs[1], 64, classes), strong, settings)},
        settings,
        METRICS["accuracy"],
        None if paired else (lambda seed: strong),
    )


def _size(data: Dataset, name: str) -> tuple[int, ...]:
    array = data.inputs.get(name, data.extras.get(name))
    assert array is not None
    return tuple(array.shape[1:])


def fashion_mnist() -> Experiment:
    """400 images of Fashion-MNIST, a ResNet-8 of width 8, and the example's network as teacher."""
    signature = set_signature("fashion-mnist")
    train, test = _split(load_dataset("fashion-mnist", signature), signature)
    if not FASHION_TEACHER.is_file():
        raise InputError(f"the bench on fashion-mnist needs {FASHION_TEACHER}; run it in a checkout of the repository")
    settings = TrainingSettings(epochs=300, batch_size=128, learning_rate=0.2)

    def opened() -> nn.Module:
        return open_model(FASHION_TEACHER, Opening()).state.torch.module

    return Experiment(
        "fashion-mnist",
        "Fashion-MNIST, 400 images: ResNet-8 of widths 8, 16, 32 (19,882 parameters); teacher: the example's, 93.77 %",
        _few(train, FASHION_IMAGES),
        test,
        lambda: ResNet8((8, 16, 32), num_classes=10, in_channels=1),
        {"teacher": TeacherRecipe(signature, opened)},
        settings,
        METRICS["accuracy"],
        augmented=True,
    )


EXPERIMENTS: dict[str, Callable[[], Experiment]] = {
    "digits": digits,
    "wrong-teacher": wrong_teacher,
    "half-experts": half_experts,
    "shapes": shapes,
    "two-view": lambda: _views(paired=True),
    "two-view-shuffled": lambda: _views(paired=False),
    "fashion-mnist": fashion_mnist,
}
