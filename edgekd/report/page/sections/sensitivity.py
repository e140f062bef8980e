"""What costs accuracy: the noise of every rounded layer, what groups of channels are worth, and what the stages chose."""

from collections.abc import Mapping
from typing import Any

from edgekd.figures import in_digits
from edgekd.report.page.blocks import Block, Cell, Head, Plot, Section, Table, Text
from edgekd.report.page.numbers import shown
from edgekd.report.page.plots.bars import Bar, bars
from edgekd.report.page.plots.svg import FIRST
from edgekd.verbs.report import TargetContent
from edgekd.verbs.report.evidence import ChannelSensitivity, LayerNoise
from edgekd.verbs.report.run_report import StageOfRun

MOST = 15  # bars


def sensitivity(target: TargetContent) -> Section:
    """Return the section."""
    blocks: list[Block] = []
    if target.noise is None:
        blocks.append(
            Text(
                "The noise of single layers is absent: `edgekd diagnose RUN --json > FILE` obtains it, `--with FILE` shows it here."
            )
        )
    else:
        blocks += _noise(target.noise)
    if target.channels is None:
        blocks.append(
            Text(
                "What groups of channels are worth is absent: `edgekd inspect MODEL --sensitivity --json > FILE` obtains it, "
                "`--with FILE` shows it here."
            )
        )
    else:
        blocks.append(_channels(target.channels.name, target.channels.sensitivity))
    for stage in target.report.stages:
        blocks += [table for table in (_candidates(stage), _kept_float(stage)) if table is not None]
    return Section("What costs accuracy", blocks)


def _noise(found: LayerNoise) -> list[Block]:
    unit = f" {found.unit}".rstrip()
    layers = sorted(found.layers, key=lambda one: -one.noise)
    text = Text(
        f"By `edgekd diagnose`: {found.metric} {in_digits(found.float_score, found.unit)}{unit} in float and {in_digits(found.score, found.unit)}{unit} in "
        f"int8, {found.sqnr_db:.1f} dB at the outputs, measured on {found.samples:,} samples of {found.data}."
    )
    rows = [Bar(one.name, {"noise": 100 * one.noise}, f"{one.noise:.1%}") for one in layers[:MOST]]
    numbers = Table(
        "The numbers of this plot: every rounded layer, the noisiest first",
        [Head("layer", number=False), Head("operator", number=False), Head("noise", "%"), Head("alone", found.unit or found.metric), Head("alone", "dB"), Head("MACs", "%"), Head("what to do", number=False)],
        [
            [Cell(one.name), Cell(one.operator), Cell(f"{one.noise:.1%}", one.noise), Cell(in_digits(one.alone_score, found.unit), one.alone_score),
             Cell(f"{one.alone_sqnr_db:.1f}", one.alone_sqnr_db), Cell(f"{one.macs:.1%}", one.macs), Cell(one.advice)]
            for one in layers
        ],
        folded=True,
        width=50,
    )  # fmt: skip
    caption = "Share of the rounding noise at the outputs, every layer rounded alone, measured; the noisiest layers."
    return [text, Plot(bars(rows, {"noise": FIRST}, "share of the noise, %", caption), caption, numbers)]


def _channels(name: str, found: ChannelSensitivity) -> Block:
    unit = found.unit or found.metric
    tried = [one for one in found.groups if one.drop is not None and one.macs is not None and one.score is not None]
    if not tried:
        return Text(f"No group of channels of {name} can be cut in multiples of {found.granularity}.")
    rows = [
        Bar(one.group.root, {"drop": max(0.0, one.drop or 0.0)}, in_digits(one.drop or 0.0, found.unit))
        for one in tried[:MOST]
    ]
    numbers = Table(
        "The numbers of this plot: every group that can be cut",
        [Head("group", number=False), Head("channels"), Head("cut"), Head("MACs less", "%"), Head(found.metric, found.unit), Head("drop", found.unit)],
        [
            [Cell(one.group.root), Cell(str(one.group.channels), one.group.channels), Cell(str(one.cut), one.cut), Cell(f"{one.macs or 0:.1%}", one.macs),
             Cell(in_digits(one.score or 0.0, found.unit), one.score), Cell(in_digits(one.drop or 0.0, found.unit), one.drop)]
            for one in tried
        ],
        folded=True,
        width=40,
    )  # fmt: skip
    caption = (
        f"Drop of {found.metric} of {name} when one group of channels alone is cut and nothing is trained; measured on "
        f"{found.samples:,} samples of the validation part."
    )
    return Plot(bars(rows, {"drop": FIRST}, f"drop, {unit}", caption), caption, numbers)


def _candidates(stage: StageOfRun) -> Table | None:
    """Return what quantize tried, with the scores on the validation part by which it chose."""
    tried = stage.notes.get("validation")
    if not isinstance(tried, Mapping) or not all(_is_pair(pair) for pair in tried.values()):
        return None
    rows = [[Cell(str(name)), *map(_optional, pair)] for name, pair in tried.items()]
    heads = [
        Head("candidate", number=False),
        Head("score", "on validation"),
        Head("signal to noise", "dB, on validation"),
    ]
    return Table(f"What {stage.name} tried, and chose from", heads, rows)


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(isinstance(value, int | float | None) for value in pair)


def _optional(value: float | None) -> Cell:
    return Cell("not finite") if value is None else Cell(shown(float(value), 4), float(value))


def _kept_float(stage: StageOfRun) -> Table | None:
    kept = stage.notes.get("kept_float")
    if not isinstance(kept, Mapping) or not kept:
        return None
    heads = [Head("layer", number=False), Head("why", number=False)]
    return Table(
        f"What {stage.name} left in float", heads, [[Cell(str(name)), Cell(str(why))] for name, why in kept.items()]
    )
