"""How good a network is on the validation part, while it is trained."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn

from edgekd.context import Context
from edgekd.data import Part
from edgekd.errors import InputError
from edgekd.evaluate import Outputs, deciding_metric, judge_outputs
from edgekd.models.network import run_network
from edgekd.teachers.teacher import Teacher
from edgekd.training.teaching import inputs_for

BATCH = 256


def device_of(network: nn.Module) -> torch.device:
    """Return where a network's weights are."""
    return next((tensor.device for tensor in network.state_dict().values()), torch.device("cpu"))


@torch.no_grad()
def network_outputs(network: nn.Module, part: Part) -> Outputs:
    """Run a part through a network in eval mode and return its outputs."""
    device = device_of(network)
    collected: dict[str, list[np.ndarray]] = {}
    for arrays in part.batches(BATCH):
        inputs = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
        for name, tensor in run_network(network, inputs).items():
            collected.setdefault(name, []).append(tensor.float().cpu().numpy())
    return {name: np.concatenate(arrays) for name, arrays in collected.items()}


@torch.no_grad()
def teachers_outputs(
    teachers: Mapping[str, Teacher], part: Part, student: Mapping[str, np.ndarray], device: torch.device
) -> Outputs:
    """Return the mean of the teachers' answers to a part, of the outputs that the student has.

    Raises:
        InputError: a teacher knows no answers to this part, or has other outputs; the message says what to do.
    """
    sums: dict[str, np.ndarray] = {}
    for name, teacher in teachers.items():
        answers: dict[str, list[np.ndarray]] = {}
        for start in range(0, len(part), BATCH):
            chosen = slice(start, start + BATCH)
            inputs, extras = (
                {one: torch.from_numpy(array).to(device) for one, array in arrays.items()}
                for arrays in (part.inputs(chosen), part.extras(chosen))
            )
            try:
                answer = teacher.answer(inputs_for(teacher, {**extras, **inputs}, inputs), sample_ids=None)
            except InputError as error:
                raise InputError(f"{_WHY}, and the teacher {name} cannot answer that part: {error}; {_WAY}") from error
            for output in student:
                yours = answer.outputs.get(output) if len(student) > 1 else answer.output()
                if yours is not None:
                    answers.setdefault(output, []).append(yours.float().cpu().numpy())
        for output, mine in student.items():
            found = np.concatenate(answers[output]) if output in answers else None
            if found is None or found.shape != mine.shape:
                raise InputError(f"{_WHY}, and the teacher {name} has other outputs than the student; {_WAY}")
            sums[output] = sums.get(output, 0) + found / len(teachers)
    return sums


_WHY = "patience compares with the teacher on the validation part, as nothing else says there what is right"
_WAY = "give labelled data, or leave patience out"


def validation_score(context: Context, teachers: Mapping[str, Teacher]) -> Callable[[nn.Module], tuple[float, bool]]:
    """Return a function that scores a network, and says whether higher is better.

    Where the metric compares with another network, that is what the student learns from: the mean of these teachers'
    answers, or without teachers the uncompressed network.
    """
    part = context.parts.validation
    metric = deciding_metric(context.metric, part)
    reference: Outputs | None = None

    def score(network: nn.Module) -> tuple[float, bool]:
        nonlocal reference
        outputs = network_outputs(network, part)
        if metric.fidelity and reference is None:
            if teachers:
                reference = teachers_outputs(teachers, part, outputs, device_of(network))
            elif context.reference is not None:
                reference = network_outputs(context.reference().eval(), part)
        return judge_outputs(outputs, reference, part, metric), metric.higher_is_better

    return score
