"""The stages: settings and a function each, found by the type of the settings."""

from edgekd.recipe import StageSettings
from edgekd.stages import distill, half, mask, prune, quantize, rewrite
from edgekd.stages.quantize import dynamic, weight_only
from edgekd.stages.stage import Stage

STAGES: dict[type[StageSettings], Stage] = {
    stage.settings: stage
    for stage in (
        prune.STAGE,
        mask.STAGE,
        distill.STAGE,
        quantize.STAGE,
        weight_only.STAGE,
        dynamic.STAGE,
        half.STAGE,
        rewrite.STAGE,
    )
}
KINDS: dict[str, type[StageSettings]] = {settings.model_fields["kind"].default: settings for settings in STAGES}

__all__ = ["KINDS", "STAGES", "Stage"]
