"""`edgekd distill`: the one stage alone."""

from typing import Any

import click

from edgekd.cli.compress import execute_and_show
from edgekd.cli.loss_option import read_losses
from edgekd.cli.options import data_options, debug_option, make_request, model_options, work_options
from edgekd.cli.stage_recipe import one_stage

SETTINGS = (
    "epochs", "task", "optimizer", "learning_rate", "batch_size", "precision", "committee", "ema", "patience", "mixup", "freeze",
    "teacher_correction", "teacher_inputs", "teacher_data", "cached_variants",
)  # fmt: skip


@click.command("distill")
@model_options
@work_options
@data_options
@click.option(
    "--loss",
    "losses",
    multiple=True,
    metavar="KIND[:NAME=VALUE,...]",
    help="A method of `edgekd methods`, e.g. kl:temperature=4,weight=0.7 or hint:taps.stages.1=stages.2. Several add up.",
)
@click.option("--task", type=float, help="Weight of the task's own loss, on labels. Default: 0.3.")
@click.option("--alpha", type=float, help="Short for --task 1-ALPHA and the loss kl with weight ALPHA.")
@click.option("--temperature", type=float, help="Softens the answers, for the loss kl that is taken without --loss.")
@click.option("--committee", metavar="KIND", help="How several teachers become one answer.")
@click.option("--epochs", type=int, help="Passes over the train part.")
@click.option("--optimizer", type=click.Choice(["sgd", "adamw"]), help="Default: sgd.")
@click.option("--learning-rate", type=float, help="The highest one of the schedule.")
@click.option("--batch-size", type=int, help="Samples a step, over all processes.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    help="Default: bfloat16 where the processor computes in it.",
)
@click.option("--ema", type=float, metavar="DECAY", help="Keep a moving average of the weights.")
@click.option("--patience", type=int, metavar="EPOCHS", help="Stop when validation gets no better for so long.")
@click.option("--mixup", type=float, metavar="ALPHA", help="Mix pairs of samples.")
@click.option("--freeze", multiple=True, metavar="MODULE", help="A module that is not trained.")
@click.option("--teacher-correction", type=int, metavar="EPOCHS", help="Fine-tune the teacher on the labels first.")
@click.option(
    "--teacher-inputs", multiple=True, metavar="NAME", help="Inputs or extras of the data that teachers take."
)
@click.option("--teacher-data", metavar="SOURCE", help="Data of the teachers' own, not paired with the student's.")
@click.option(
    "--cache",
    "teacher_cache_form",
    type=click.Choice(["off", "full", "half", "top-k"]),
    help="Keep the teachers' answers on disk (--teacher-cache says where).",
)
@click.option("--cached-variants", type=int, metavar="N", help="Fixed augmentations of each sample that are kept.")
@debug_option
def command(**options: Any) -> int:
    """Train MODEL towards one or more teachers (--teacher, repeatable), and export it.

    A teacher is a network, a run directory, an ONNX file, a folder of stored outputs or package.module:function; by default
    it is MODEL itself. Several processes train together: torchrun --nproc-per-node 2 -m edgekd distill ...
    """
    from edgekd.errors import InputError

    given = {name: options[name] for name in SETTINGS}
    given["teacher_cache"] = options["teacher_cache_form"]
    if options["teacher_cache"] is not None and given["teacher_cache"] in (None, "off"):
        raise InputError("--teacher-cache says where answers are kept; say in what form: --cache full, half or top-k")
    given |= read_losses(options["losses"], options["task"], options["alpha"], options["temperature"])
    return execute_and_show(make_request(options, one_stage("distill", given)), options["as_json"])
