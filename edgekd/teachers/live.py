"""A teacher that is a torch network at hand: it gives features too, and stops where no more is needed."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.losses.step import Answer
from edgekd.models.signature import Signature
from edgekd.models.taps import Taps
from edgekd.teachers.teacher import Teacher


class LiveTeacher(Teacher):
    """A frozen network in evaluation mode.

    `asked` counts the samples of all batches, `samples` those that it was really run on, `macs` the work done: a pass that
    stops behind a tap counts up to there.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        identity: str,
        signature: Signature,
        *,
        licence: str = "not stated",
        source: str = "not stated",
    ) -> None:
        self.name, self.licence, self.source = name, licence, source
        self._identity = identity
        self.network = network.eval().requires_grad_(False)
        self.signature = signature
        self.inputs = tuple(spec.name for spec in signature.inputs)
        self._taps: dict[tuple[str, ...], Taps] = {}
        self._cost: dict[tuple[tuple[str, ...], bool], int] = {}
        self.asked = 0
        self.samples = 0
        self.macs = 0

    @property
    def identity(self) -> str:
        """Return the hash of the network."""
        return self._identity

    @property
    def live_features(self) -> bool:
        """Return True: what its modules give can be captured."""
        return True

    def check_tap(self, tap: str) -> None:
        """Check that the network has a module for this tap.

        Raises:
            InputError: it has none; the nearest names are given.
        """
        Taps(self.network, [tap])

    def has_tap(self, tap: str) -> bool:
        """Return whether the network has a module for this tap."""
        try:
            self.check_tap(tap)
        except InputError:
            return False
        return True

    def answer(
        self,
        inputs: Mapping[str, Tensor],
        *,
        sample_ids: Tensor | None,
        taps: tuple[str, ...] = (),
        outputs_wanted: bool = True,
    ) -> Answer:
        """Run the network without gradients; with taps alone it stops behind the last of them."""
        tapped = self._tapped(taps)
        count = len(next(iter(inputs.values())))
        if not self.samples:
            self._macs(inputs, (), True)  # what all of it costs, to compare with
        self.samples += count
        self.macs += count * self._macs(inputs, taps, outputs_wanted)
        with torch.no_grad():
            outputs, features = tapped.run(inputs, outputs=outputs_wanted)
        return Answer(outputs, features)

    def switched(self, inputs: Mapping[str, Tensor], path: str, tokens: Tensor) -> Tensor:
        """Return the first output where a module's answer is replaced by `tokens`; gradients flow to them."""
        outputs, _ = self._tapped(()).run(inputs, replaced={path: tokens})
        return next(iter(outputs.values()))

    def share(self) -> float:
        """Return how much of the work was done that all samples through the whole network would have been."""
        whole = self.asked * self._cost.get(((), True), 0)
        return self.macs / whole if whole else 1.0

    def _tapped(self, taps: Sequence[str]) -> Taps:
        key = tuple(taps)
        if key not in self._taps:
            self._taps[key] = Taps(self.network, key)
        return self._taps[key]

    def _macs(self, inputs: Mapping[str, Tensor], taps: tuple[str, ...], outputs_wanted: bool) -> int:
        """Count the multiply-accumulates of one sample, once for every set of taps."""
        key = (taps, outputs_wanted)
        if key not in self._cost:
            from torch.utils.flop_counter import FlopCounterMode

            one = {name: tensor[:1] for name, tensor in inputs.items()}
            counter = FlopCounterMode(display=False)
            with torch.no_grad(), counter:
                self._tapped(taps).run(one, outputs=outputs_wanted)
            self._cost[key] = int(counter.get_total_flops()) // 2
        return self._cost[key]
