"""prune, mask, distill, quantize and export: the recipe that their options make."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgekd.losses import LOSSES, Schedule
from edgekd.stages.rewrite.kinds.fold_batch_norm import FoldBatchNorm
from edgekd.stages.rewrite.kinds.low_rank import LowRank

from .conftest import Cli


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Requests that would have been executed."""
    asked: list[Any] = []
    for name in ("prune", "mask", "distill", "quantize", "rewrite", "export"):
        module = importlib.import_module(f"edgekd.cli.{name}")
        monkeypatch.setattr(module, "execute_and_show", lambda request, as_json: asked.append(request) or 0)
    return asked


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        (("prune", "--to-macs", "0.5", "--keep", "a", "--keep", "b"), {"to_macs": 0.5, "keep": ("a", "b")}),
        (("prune", "--to-parameters", "0.5", "--granularity", "8"), {"to_parameters": 0.5, "granularity": 8}),
        (
            ("mask", "--sparsity", "0.7", "--epochs", "2", "--scope", "local"),
            {"zeros": 0.7, "epochs": 2, "scope": "local"},
        ),
        (("mask", "--pattern", "2:4", "--keep", "a"), {"zeros": 0.5, "group": (2, 4), "keep": ("a",)}),
        (
            ("prune", "--to-macs", "0.5", "--axes", "depth", "--search", "4", "--search-epochs", "2"),
            {"to_macs": 0.5, "axes": ("depth",), "search": 4, "search_epochs": 2},
        ),
        (
            ("prune", "--to-ms", "2", "--latency-aware", "--scope", "isomorphic", "--axes", "mlp", "--axes", "heads"),
            {"to_ms": 2.0, "latency_aware": True, "scope": "isomorphic", "axes": ("mlp", "heads")},
        ),
        (
            ("prune", "--to-macs", "0.5", "--importance", "hessian", "--largest-cut", "0.5", "--steps", "9"),
            {"importance": "hessian", "largest_cut": 0.5, "steps": 9, "latency_aware": False},
        ),
        (
            ("distill", "--epochs", "1", "--alpha", "1", "--batch-size", "64"),
            {"epochs": 1, "task": Schedule(start=0, end=0), "batch_size": 64},
        ),
        (
            (
                "distill",
                "--loss",
                "kl:temperature=3,weight=0.5",
                "--loss",
                "hint:taps.stages.1=stages.2",
                "--task",
                "0.2",
            ),
            {
                "losses": (
                    LOSSES["kl"].model_validate({"temperature": 3, "weight": 0.5}),
                    LOSSES["hint"].model_validate({"taps": {"stages.1": "stages.2"}}),
                ),
                "task": Schedule(start=0.2, end=0.2),
            },
        ),
        (
            ("quantize", "--calibrator", "mse", "--keep-float", "Gemm"),
            {"calibrators": ("mse",), "keep_float": ("Gemm",)},
        ),
        (
            (
                "rewrite",
                "--rewrite",
                "fold-batch-norm",
                "--rewrite",
                "low-rank:energy=0.9,layers=['a']",
                "--keep",
                "always",
            ),
            {"rewrites": (FoldBatchNorm(), LowRank(energy=0.9, layers=("a",))), "keep": "always"},
        ),
    ],
)
def test_options_become_settings(
    cli: Cli, requests: list[Any], arguments: tuple[str, ...], settings: dict[str, Any]
) -> None:
    command, *options = arguments
    outcome = cli(command, "model.pt", "-t", "nir", "-t", "generic-x86", "--seed", "3", *options)
    assert outcome.code == 0, outcome.err
    (request,) = requests
    (stage,) = request.recipe.stages
    assert stage.kind == command and {name: getattr(stage, name) for name in settings} == settings
    assert request.targets == ("nir", "generic-x86") and request.seed == 3


@pytest.mark.parametrize(
    ("options", "stages"),
    [
        (("--weights", "int4", "--block", "64"), [{"kind": "quantize-weights", "bits": 4, "block": 64}]),
        (("--dynamic", "--keep-float", "Gemm"), [{"kind": "quantize-dynamic", "keep_float": ("Gemm",)}]),
        (("--half", "--storage-only"), [{"kind": "half", "storage_only": True}]),
        (
            ("--mixed", "--calibrator", "mse"),
            [{"kind": "quantize", "calibrators": ("mse",)}, {"kind": "half", "storage_only": False}],
        ),
    ],
)
def test_every_way_of_quantizing_is_its_stages(
    cli: Cli, requests: list[Any], options: tuple[str, ...], stages: list[dict[str, Any]]
) -> None:
    assert cli("quantize", "model.pt", "-t", "generic-x86", *options).code == 0
    made = requests[0].recipe.stages
    assert len(made) == len(stages)
    for stage, wanted in zip(made, stages, strict=True):
        assert {name: getattr(stage, name) for name in wanted} == wanted


def test_export_options(cli: Cli, requests: list[Any]) -> None:
    cli("export", "model.pt", "-t", "nir", "--uint8-input", "--include-samples")
    assert requests[0].recipe.stages == ()
    assert requests[0].recipe.export.model_dump() == {"input": "uint8", "include_samples": True}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("prune",), "give exactly one of --to-macs, --to-parameters, --to-latency"),
        (("prune", "--to-macs", "2"), "--to-macs: must be less than 1, not"),
        (("prune", "--to-macs", "0.5", "--granularity", "0"), "--granularity"),
        (("mask",), "give sparsity, or pattern N:M"),
        (("mask", "--sparsity", "1"), "--sparsity: must be less than 1, not"),
        (("mask", "--sparsity", "0.7", "--pattern", "2:4"), "pattern 2:4 means sparsity 0.5, not 0.7"),
        (("mask", "--pattern", "4:2"), "--pattern"),
        (("distill", "--alpha", "0"), "--alpha"),
        (("distill", "--epochs", "many"), "--epochs"),
        (("distill", "--loss", "kll"), "no loss 'kll'; did you mean 'kl'?"),
        (("distill", "--loss", "kl:temperature"), "'temperature' is not NAME=VALUE"),
        (("distill", "--loss", "kl:temperature=0"), "above 0"),
        (("distill", "--loss", "kl", "--alpha", "0.5"), "--alpha and --temperature belong to"),
        (("distill", "--committee", "meen"), "no committee 'meen'; did you mean 'mean'?"),
        (("quantize", "--calibrator", "guess"), "--calibrator"),
        (("rewrite", "--rewrite", "lowrank:rank=3"), "--rewrite: no rewrite 'lowrank'; did you mean 'low-rank'?"),
        (("rewrite", "--rewrite", "low-rank:rank"), "--rewrite low-rank:rank: 'rank' is not NAME=VALUE"),
        (("rewrite", "--rewrite", "low-rank:rank=3,energy=0.5"), "give one of energy, to_parameters, rank"),
        (("rewrite", "--rewrite", "xyz"), "no rewrite 'xyz'; it is one of"),
        (("rewrite", "--rewrite", "drop-branches:modules=[side,aux]"), "the whole option stands in single quotes"),
        (("rewrite", "--rewrite", "replace-activation:mapping={SiLU=Hardswish}"), "is no table as in TOML"),
        (("rewrite", "--rewrite", 'drop-branches:modules=["side"],insted="zero"'), "no setting 'insted'"),
        (("rewrite",), "Missing option '--rewrite'"),
        (("quantize", "--weights", "int4", "--half"), "--weights and --half exclude each other"),
        (("quantize", "--dynamic", "--calibrator", "mse"), "--calibrator does not go with --dynamic"),
        (("quantize", "--block", "32"), "--block does not go with static int8"),
        (("quantize", "--weights", "int4", "--block", "33"), "--block: must be 0, 16"),
    ],
)
def test_wrong_settings_are_said_in_the_words_of_the_command_line(
    cli: Cli, arguments: tuple[str, ...], words: str
) -> None:
    command, *options = arguments
    outcome = cli(command, "model.pt", "-t", "raspberry-pi-5", *options)
    assert outcome.code == 2 and words in outcome.err


def test_quantize_makes_an_int8_artifact(quantized: Path) -> None:
    manifest = json.loads((quantized / "artifact/manifest.json").read_text())
    assert manifest["precision"] == "int8"
    assert {path.name for path in (quantized / "artifact").iterdir()} >= {"model.onnx", "run.pyz", "samples.npz"}


def test_export_makes_a_float_artifact(exported: Path) -> None:
    assert json.loads((exported / "artifact/manifest.json").read_text())["precision"] == "fp32"


def test_rewrite_makes_an_artifact_and_its_run_is_pruned(cli: Cli, model: Path) -> None:
    outcome = cli("rewrite", model, "-t", "raspberry-pi-5", "--rewrite", "fold-batch-norm", "-o", "folded")
    assert outcome.code == 0, outcome.err
    assert (
        "7 batch norms folded" in outcome.err and "speed not measured: this machine is no Raspberry Pi 5" in outcome.err
    )
    outcome = cli("plan", "folded", "-t", "raspberry-pi-5", "--recipe", "prune-distill-quantize")
    assert outcome.code == 0, outcome.out + outcome.err


def test_a_rewrite_comes_before_quantize(cli: Cli, model: Path) -> None:
    Path("recipe.toml").write_text(
        '[[stage]]\nkind = "quantize"\n[[stage]]\nkind = "rewrite"\nrewrites = ["fold-constants"]\n'
    )
    outcome = cli("plan", model, "-t", "raspberry-pi-5", "--recipe", "recipe.toml")
    assert (
        outcome.code == 2
        and "stage 2 (rewrite): the network is int8 by then; put rewrite before quantize"
        in " ".join(outcome.out.split())
    )


def test_a_run_keeps_what_its_data_told(cli: Cli) -> None:
    """Inputs and preprocessing came from a set of `calibration/`: there is no sidecar, and nothing is asked again."""
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), "net.pt")
    made = cli("export", "net.pt", "-t", "raspberry-pi-5", "--data", "fashion-mnist", "-o", "a")
    assert made.code == 0, made.err
    planned = cli("plan", "a", "-t", "raspberry-pi-5", "--recipe", "quantize")
    assert planned.code == 0, planned.out + planned.err
