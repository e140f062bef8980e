"""A frame's way from raw bytes to labels, with a session that lets a fake clock run."""

from pathlib import Path

import numpy as np
import pytest

from edgekd.device.artifact import open_artifact
from edgekd.device.end_to_end import profile_end_to_end
from edgekd.device.errors import CheckFailed
from edgekd.device.runtimes import open_session

from .conftest import MakeArtifact, reference, save_classifier


def test_a_frame_larger_than_the_model_s_input_is_cut_to_it(artifact: Path) -> None:
    opened = open_artifact(artifact)
    fed = []
    real = opened.session.run
    opened.session.run = lambda feeds: fed.append(feeds["image"]) or real(feeds)  # type: ignore[method-assign,assignment,func-returns-value]
    found = profile_end_to_end(opened.session, opened.manifest, 2, frame=(40, 30), duration_s=0.1)
    assert found["frame"] == [30, 40, 1] and fed[0].shape == (2, 1, 8, 8) and fed[0].dtype == np.float32
    assert -2.0 <= fed[0].min() < fed[0].max() <= 2.0  # (0..1 - 0.5) / 0.25
    parts = sum(found[f"{name}_p50_ms"] for name in ("preprocess", "runtime", "postprocess"))
    assert 0.5 * found["latency"]["min_ms"] < parts < 2 * found["latency"]["max_ms"]
    assert found["frames_per_second"] == pytest.approx(2e3 / found["latency"]["mean_ms"])


def test_why_it_is_not_known(make_artifact: MakeArtifact, tmp_path: Path) -> None:
    opened = open_artifact(make_artifact(preprocessing=None))
    with pytest.raises(CheckFailed, match="preprocessing is not known"):
        profile_end_to_end(opened.session, opened.manifest, 1)
    save_classifier(tmp_path / "model.onnx")
    with pytest.raises(CheckFailed, match="preprocessing is not known"):
        profile_end_to_end(open_session("onnxruntime", tmp_path / "model.onnx"), None, 1)
    assert reference(np.zeros((1, 1, 8, 8), np.float32)).shape == (1, 6)
