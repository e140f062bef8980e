"""What a teacher is: something that answers batches of inputs, and knows what it is made from."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgekd.data import Part
from edgekd.errors import InputError, StageError
from edgekd.losses.step import Answer
from edgekd.teachers.text import text_tensor


class Teacher(ABC):
    """Answers batches; a network, a function, an ONNX file, stored outputs, or a cache in front of any of them.

    `name` is for messages. `licence` (an SPDX identifier) and `source` say whose answers they are and where they come
    from; they travel with every stored answer.
    """

    name: str
    licence: str = "not stated"
    source: str = "not stated"
    inputs: tuple[str, ...] | None = None  # the names of what it takes; None: the student's inputs

    @property
    @abstractmethod
    def identity(self) -> str:
        """Return the hash of all that decides the answers; two teachers with the same one answer alike."""

    @property
    def content(self) -> str:
        """Return the hash of all that decides what is learned: the identity, and what else stands before the answers."""
        return self.identity

    @property
    def live_features(self) -> bool:
        """Return whether the teacher can give what is captured at its taps; a black box cannot."""
        return False

    @abstractmethod
    def answer(
        self,
        inputs: Mapping[str, Tensor],
        *,
        sample_ids: Tensor | None,
        taps: tuple[str, ...] = (),
        outputs_wanted: bool = True,
    ) -> Answer:
        """Return the answer to a batch, without gradients, on the device of the inputs.

        Args:
            inputs: the network's inputs by name, (N, ...).
            sample_ids: positions in the training part, (N,); None where the batch is not of that part.
            taps: module paths whose features are wanted.
            outputs_wanted: False where the features suffice, and the outputs may be left out.

        Raises:
            InputError: taps are wanted of a black box, or the teacher does not take these inputs.
            StageError: the teacher's answer cannot be used.
        """

    def for_part(self, part: Part) -> "Teacher":
        """Return the teacher for the training part that sample ids will be positions in.

        A teacher that finds its answers by sample id finds them for this part's samples then.

        Raises:
            InputError: it has no answers to these samples.
        """
        return self

    def kept(self, sample_ids: Tensor) -> Tensor | None:
        """Return which samples have an answer that may be used, a boolean (N,); None: all.

        The rows of the others are zeros in `answer`; whoever trains leaves them out of `Step.valid`.
        """
        return None

    def _refuse_taps(self, taps: Sequence[str]) -> None:
        if taps:
            raise InputError(
                f"the teacher {self.name} is a black box: it has no features at {', '.join(taps)}; "
                "choose losses on outputs, or give the network itself"
            )


def batch_size(inputs: Mapping[str, Tensor]) -> int:
    """Return the number of samples in a batch."""
    return len(next(iter(inputs.values())))


def on_device_of(inputs: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors on the device of a batch, on the CPU for one without inputs."""
    device = next((tensor.device for tensor in inputs.values()), torch.device("cpu"))
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def named_tensors(raw: Any, samples: int, who: str) -> dict[str, Tensor]:
    """Return what foreign code answered as named tensors, one row a sample.

    An array, a tensor or a list of texts is `output`, a tuple `output1`, ..., a mapping itself.

    Raises:
        StageError: a part is no array of numbers or texts, has another number of rows, or holds NaN.
    """
    if isinstance(raw, Mapping):
        named = {str(name): value for name, value in raw.items()}
    elif isinstance(raw, tuple):
        named = {f"output{position + 1}": value for position, value in enumerate(raw)}
    else:
        named = {"output": raw}
    if not named:
        raise StageError(f"{who} answers nothing")
    return {name: _tensor(value, samples, f"{who}: output {name}") for name, value in named.items()}


def _tensor(value: Any, samples: int, where: str) -> Tensor:
    if isinstance(value, list) and value and all(isinstance(text, str) for text in value):
        tensor = text_tensor(value)
    elif isinstance(value, Tensor):
        tensor = value.detach()
    else:
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise StageError(f"{where} has dtype {array.dtype}; numbers, or a list of texts, are read")
        try:
            tensor = torch.from_numpy(np.array(array))  # a copy: the array may be read-only, or change later
        except TypeError as error:
            raise StageError(f"{where} has dtype {array.dtype}, which torch does not know") from error
    if tensor.ndim < 1 or len(tensor) != samples:
        raise StageError(f"{where} has shape {tuple(tensor.shape)} for {samples} samples; give one row a sample")
    if tensor.is_floating_point() and tensor.isnan().any():
        raise StageError(f"{where} holds NaN")
    return tensor
