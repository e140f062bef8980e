import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekd.artifact import OPEN_LICENCES
from edgekd.data import image_folder, load_dataset
from edgekd.data.calibration_sets import read_set, set_names, set_signature
from edgekd.data.idx import read_idx
from edgekd.data.sources import as_dataset
from edgekd.errors import InputError
from edgekd.models.signature import Signature, TensorSpec
from edgekd.resources import shipped

IMAGES = Signature(inputs=(TensorSpec(name="image", shape=("batch", 3, 8, 8)),))
SIZES = {"fashion-mnist": (12_000, 10_000), "digits": (1_297, 500)}  # training and test samples
VECTORS = Signature(inputs=(TensorSpec(name="x", shape=("batch", 4)),))


def paint(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (16, 12)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def test_class_folders_become_targets_in_sorted_order(tmp_path: Path) -> None:
    paint(tmp_path / "dog" / "a.png", (255, 0, 0))
    paint(tmp_path / "cat" / "b.jpg", (0, 0, 255))
    found = load_dataset(tmp_path, IMAGES)
    assert found.labels == ("cat", "dog")
    assert found.inputs["image"].shape == (2, 3, 8, 8) and found.inputs["image"].dtype == np.uint8
    assert found.targets is not None and sorted(found.targets) == [0, 1]
    assert found.inputs["image"][found.targets == 1][0, 0].min() > 250


def test_the_model_s_labels_give_the_order(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        paint(tmp_path / name / "a.png", (9, 9, 9))
    found = load_dataset(tmp_path, IMAGES.model_copy(update={"labels": ("dog", "cat", "cow")}))
    assert found.labels == ("dog", "cat", "cow")
    assert found.targets is not None and found.targets.tolist() == [1, 0]


def test_a_test_folder_is_held_out(tmp_path: Path) -> None:
    for half, count in (("train", 3), ("test", 2)):
        for i in range(count):
            paint(tmp_path / half / "cat" / f"{i}.png", (i, i, i))
    found = load_dataset(tmp_path, IMAGES)
    assert found.held_out is not None and found.held_out.sum() == 2 and found.labels == ("cat",)


def test_images_without_classes_are_unlabelled(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", (1, 2, 3))
    found = load_dataset(tmp_path, IMAGES)
    assert found.targets is None


def test_a_folder_of_unlabelled_images_has_no_class(tmp_path: Path) -> None:
    for name in ("cat", "dog", "unlabelled"):
        paint(tmp_path / name / "a.png", (1, 2, 3))
    found = load_dataset(tmp_path, IMAGES)
    assert found.labels == ("cat", "dog") and found.targets is not None and found.targets.tolist() == [0, 1, -1]
    for name in ("cat", "dog"):
        (tmp_path / name / "a.png").unlink()
    assert load_dataset(tmp_path, IMAGES).targets is None
    for name in ("cat", "dog"):
        paint(tmp_path / name / "a.png", (1, 2, 3))
    named = load_dataset(tmp_path, IMAGES.model_copy(update={"labels": ("unlabelled", "dog", "cat")}))
    assert named.targets is not None and named.targets.tolist() == [2, 1, 0]


def test_one_unreadable_image_is_named(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", (1, 2, 3))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG not really")
    with pytest.raises(InputError, match=r"broken\.png.*repair or remove"):
        load_dataset(tmp_path, IMAGES)


def test_a_folder_without_images_says_so(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="holds no images"):
        load_dataset(tmp_path, IMAGES)


def test_a_limit_takes_the_same_images_every_time(tmp_path: Path) -> None:
    for i in range(10):
        paint(tmp_path / f"{i}.png", (i * 20, 0, 0))
    chosen = [load_dataset(tmp_path, IMAGES, limit=4).inputs["image"] for _ in range(2)]
    assert len(chosen[0]) == 4 and (chosen[0] == chosen[1]).all()


def test_an_npz_may_call_its_input_x(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((5, 4), np.float32), y=np.arange(5), groups=np.zeros(5))
    named = Signature(inputs=(TensorSpec(name="signal", shape=("batch", 4)),))
    found = load_dataset(tmp_path / "a.npz", named)
    assert list(found.inputs) == ["signal"] and found.groups is not None
    assert found.targets is not None and found.targets.tolist() == [0, 1, 2, 3, 4]


def test_other_arrays_with_a_row_a_sample_are_extras(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "a.npz",
        x=np.ones((5, 4), np.float32),
        y=np.arange(5),
        depth=np.ones((5, 2, 2)),
        mean=np.ones(3),
        name=np.array(["a"] * 5),
        total=np.array(5),
    )
    found = load_dataset(
        tmp_path / "a.npz", VECTORS.model_copy(update={"inputs": (TensorSpec(name="s", shape=("batch", 4)),)})
    )
    assert list(found.extras) == ["depth"] and list(found.inputs) == ["s"]


@pytest.mark.parametrize("name", ["valid", "attention_mask", "targets.boxes"])
def test_arrays_whose_names_mean_something_are_not_left_out(name: str) -> None:
    with pytest.raises(InputError, match=f"do not count the same samples.*{name}"):
        as_dataset({"x": np.ones((5, 4)), name: np.ones((6, 2))}, VECTORS)


def test_several_inputs_are_found_by_name(tmp_path: Path) -> None:
    two = Signature(inputs=tuple(TensorSpec(name=name, shape=("batch", 2)) for name in ("a", "b")))
    np.savez(tmp_path / "a.npz", a=np.ones((5, 2)), c=np.ones((5, 2)))
    with pytest.raises(InputError, match="no array b; it holds a, c"):
        load_dataset(tmp_path / "a.npz", two)


def test_an_npz_of_python_objects_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> object:
            return (Path(tmp_path / "ran").touch, ())

    np.savez(tmp_path / "a.npz", x=np.array([Evil()], dtype=object))
    with pytest.raises(InputError, match="cannot read"):
        load_dataset(tmp_path / "a.npz", VECTORS)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04broken"])
def test_a_damaged_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError, match="cannot read"):
        load_dataset(tmp_path / "a.npz", VECTORS)


def test_a_function_gives_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_data_set.py").write_text(
        "import numpy as np\ndef load():\n    return np.ones((6, 4), np.float32), np.arange(6) % 2\n"
        "def wrong():\n    return 'text'\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = load_dataset("my_data_set:load", VECTORS)
    assert len(found) == 6 and found.targets is not None
    with pytest.raises(InputError, match="data of type str"):
        load_dataset("my_data_set:wrong", VECTORS)
    with pytest.raises(InputError, match="has no 'none'"):
        load_dataset("my_data_set:none", VECTORS)


def test_unknown_data_show_the_sets() -> None:
    with pytest.raises(InputError, match="nearest set: fashion-mnist"):
        load_dataset("fashion-mnst", VECTORS)


def test_arrays_in_memory_are_data() -> None:
    assert as_dataset((np.ones((3, 4)), [0, 1, 0]), VECTORS).targets is not None
    assert as_dataset(np.ones((3, 4)), VECTORS).targets is None


@pytest.mark.parametrize("name", set_names())
def test_shipped_sets_are_whole(name: str) -> None:
    described, folder = read_set(name)
    assert described.licence and described.origin
    train, test = SIZES[name]
    images, labels = (read_idx(folder / file) for file in described.test)
    assert len(images) == len(labels) == test
    part, part_labels = (read_idx(folder / file) for file in described.train)
    assert len(part) == len(part_labels) == train
    assert set(part_labels) == set(range(len(described.labels)))
    found = load_dataset(name, set_signature(name))
    assert found.held_out is not None and found.held_out.sum() == test


def test_a_damaged_idx_file_is_refused(tmp_path: Path) -> None:
    whole = (shipped("calibration") / "fashion-mnist" / "t10k-labels-idx1-ubyte.gz").read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], gzip.compress(b"\0\0\x0d\x01" + bytes(8))):
        (tmp_path / "a.gz").write_bytes(content)
        with pytest.raises(InputError, match="gzipped IDX"):
            read_idx(tmp_path / "a.gz")


ANOMALY = IMAGES.model_copy(update={"task": "anomaly"})


def test_folders_of_the_task_anomaly_are_told_apart_by_the_normal_one(tmp_path: Path) -> None:
    for name in ("train/Good/a", "test/broken/b", "test/Good/c", "test/scratch/d"):
        paint(tmp_path / f"{name}.png", (9, 9, 9))
    found = load_dataset(tmp_path, ANOMALY)
    assert found.targets is not None and found.held_out is not None
    assert found.targets.tolist() == [0, 0, 1, 1] and found.held_out.tolist() == [False, True, True, True]
    assert found.labels == ("normal", "anomalous")


def test_the_task_anomaly_needs_a_normal_folder(tmp_path: Path) -> None:
    for name in ("bad", "worse"):
        paint(tmp_path / name / "a.png", (9, 9, 9))
    with pytest.raises(InputError, match="bad, worse.*good, normal or ok"):
        load_dataset(tmp_path, ANOMALY)


def test_folders_that_are_no_labels_are_refused(tmp_path: Path) -> None:
    for name in ("cat", "dgo"):
        paint(tmp_path / name / "a.png", (9, 9, 9))
    with pytest.raises(InputError, match=r"dgo are none of the model's labels \(cat, dog\)"):
        load_dataset(tmp_path, IMAGES.model_copy(update={"labels": ("cat", "dog")}))


def test_images_beside_class_folders_are_reported(tmp_path: Path) -> None:
    paint(tmp_path / "cat" / "a.png", (9, 9, 9))
    paint(tmp_path / "stray.png", (9, 9, 9))
    with pytest.raises(InputError, match=r"1 images beside them, stray\.png"):
        load_dataset(tmp_path, IMAGES)


@pytest.mark.parametrize("half", ["valid", "eval", "dev"])
def test_other_names_of_the_held_out_half(tmp_path: Path, half: str) -> None:
    for folder in ("train", half):
        paint(tmp_path / folder / "cat" / "a.png", (9, 9, 9))
    found = load_dataset(tmp_path, IMAGES)
    assert found.labels == ("cat",) and found.held_out is not None and found.held_out.tolist() == [False, True]


def test_folders_are_no_targets_of_a_regression(tmp_path: Path) -> None:
    paint(tmp_path / "cat" / "a.png", (9, 9, 9))
    assert load_dataset(tmp_path, IMAGES.model_copy(update={"task": "regression"})).targets is None


def test_folders_of_the_task_embedding_are_identities(tmp_path: Path) -> None:
    for name in ("anna", "carl"):
        paint(tmp_path / name / "a.png", (9, 9, 9))
    found = load_dataset(tmp_path, IMAGES.model_copy(update={"task": "embedding", "labels": ("someone",)}))
    assert found.targets is not None and found.targets.tolist() == [0, 1] and found.labels is None


def test_more_pixels_than_memory_name_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(3):
        paint(tmp_path / f"{i}.png", (i, 0, 0))
    monkeypatch.setattr(image_folder, "available_memory_mib", lambda: 0.0001)
    with pytest.raises(InputError, match=r"lower \[data\] limit \(it is 60,000\)"):
        load_dataset(tmp_path, IMAGES)


def test_a_plain_array_under_the_name_of_an_archive(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((5, 4)))
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    with pytest.raises(InputError, match=r"write it with np\.savez"):
        load_dataset(tmp_path / "a.npz", VECTORS)


def test_a_damaged_or_encrypted_member_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.random.default_rng(0).random((50, 4)))
    whole = bytearray((tmp_path / "a.npz").read_bytes())
    start = whole.index(b"x.npy") + 5
    damaged = whole.copy()
    damaged[start + 20 : start + 60] = b"\xff" * 40
    encrypted = whole.copy()
    encrypted[6] |= 1  # the flag in the local header, and in the directory
    encrypted[whole.rindex(b"PK\x01\x02") + 8] |= 1
    for content, words in ((damaged, "cannot read"), (encrypted, "without a password")):
        (tmp_path / "b.npz").write_bytes(content)
        with pytest.raises(InputError, match=words):
            load_dataset(tmp_path / "b.npz", VECTORS)


def test_held_out_is_true_or_false(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((2, 4)), held_out=np.array(["no", "yes"]))
    with pytest.raises(InputError, match="held_out has dtype"):
        load_dataset(tmp_path / "a.npz", VECTORS)


def test_a_function_that_fails_or_is_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_failing_data.py").write_text("value = 3\ndef load():\n    raise KeyError('gone')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match="my_failing_data:load fails: KeyError: 'gone'"):
        load_dataset("my_failing_data:load", VECTORS)
    with pytest.raises(InputError, match="my_failing_data:value is no function but int"):
        load_dataset("my_failing_data:value", VECTORS)


@pytest.mark.parametrize("name", set_names())
def test_shipped_sets_bring_their_licence_and_provenance(name: str) -> None:
    described, folder = read_set(name)
    assert described.licence in OPEN_LICENCES
    assert described.origin.partition(",")[0] in (folder / "LICENSE").read_text()  # whoever made them
    found = load_dataset(name, set_signature(name))
    assert (found.licence, found.provenance) == (described.licence, described.origin)
