from pathlib import Path

import numpy as np
import pytest

from edgekd.errors import InputError
from edgekd.recipe import DataSettings
from edgekd.verbs.score import _by_class
from edgekd.verbs.subject import cut_of, run_of


def test_classes() -> None:
    outputs = np.eye(3)[[0, 0, 1, 2, 2, 2]]
    targets = np.array([0, 0, 0, 1, 2, 2])
    cat, dog, bird = _by_class(outputs, targets, ("cat", "dog", "bird"))
    assert (cat.samples, round(cat.accuracy, 1), cat.mistaken_for) == (3, 66.7, "dog")
    assert (dog.label, dog.accuracy, dog.mistaken_for) == ("dog", 0.0, "bird")
    assert (bird.accuracy, bird.mistaken_for) == (100.0, None)
    assert _by_class(outputs, targets, None)[0].label == "0"


def test_one_logit_has_two_classes() -> None:
    outputs = np.array([[3.0], [-1.0], [2.0], [-2.0]])
    no, yes = _by_class(outputs, np.array([1, 1, 0, 0]), ("no", "yes"))
    assert (no.accuracy, yes.accuracy, yes.mistaken_for) == (50.0, 50.0, "no")


@pytest.mark.parametrize("where", ["", "artifact", "artifact/raspberry-pi-5"])
def test_a_run_says_how_its_data_were_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    (tmp_path / where).mkdir(parents=True, exist_ok=True)
    assert cut_of(run_of(tmp_path / where)) == (DataSettings(), "the default settings")
    (tmp_path / "run.json").write_text("{}")
    content = '{"recipe": {"data": {"evaluation": 0.5, "limit": 100}}}'
    for report in (content, f'{{"targets": [{content}]}}'):
        (tmp_path / "report.json").write_text(report)
        cut, whose = cut_of(run_of(tmp_path / where))
        assert (cut.evaluation, cut.limit, whose) == (0.5, 100, str(tmp_path / "report.json"))
    (tmp_path / where / "model.onnx").touch()
    monkeypatch.chdir(tmp_path / where)
    assert cut_of(run_of(Path("."))) == cut_of(run_of(Path("model.onnx"))) == (cut, whose)
    (tmp_path / "report.json").write_text("[]")
    with pytest.raises(InputError, match="how the run cut its data"):
        cut_of(run_of(tmp_path / where))
