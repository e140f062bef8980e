"""The catalogue of distillation methods: pure functions, each wrapped by typed settings, one file an idea.

Importing this package registers every method: a new file in one of the folders is enough.
"""

import importlib
import pkgutil

from edgekd.losses.committee.committee import COMMITTEES, AnyCommittee, Committee
from edgekd.losses.feature.feature_loss import POLICIES, FeatureLoss, LayerPolicy
from edgekd.losses.gradient.gradient_filter import FILTERS, AnyFilter, GradientFilter
from edgekd.losses.loss import LOSSES, AnyLoss, Loss, OutputLoss
from edgekd.losses.schedule import Schedule
from edgekd.losses.step import Answer, Setup, Step
from edgekd.losses.weighting import WEIGHTS, AnyWeight, SignalWeight

for _folder in ("logit", "feature", "weight", "committee", "crossmodal", "gradient"):
    _package = importlib.import_module(f"edgekd.losses.{_folder}")
    for _module in pkgutil.iter_modules(_package.__path__):
        importlib.import_module(f"edgekd.losses.{_folder}.{_module.name}")

__all__ = [
    "COMMITTEES", "FILTERS", "LOSSES", "POLICIES", "WEIGHTS", "Answer", "AnyCommittee", "AnyFilter", "AnyLoss",
    "AnyWeight", "Committee", "FeatureLoss", "GradientFilter", "LayerPolicy", "Loss", "OutputLoss", "Schedule", "Setup",
    "SignalWeight", "Step",
]  # fmt: skip
