import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgekd.errors import InputError
from edgekd.verbs.methods.bench import NONE, Bench, read_arms, run_bench
from edgekd.verbs.methods.experiments import EXPERIMENTS, experiment

ARMS = """
[[arm]]
name = "kl"
data = "digits"
losses = ["kl"]
[[arm]]
name = "kl again"
data = ["digits"]
losses = ["kl"]
[[arm]]
name = "wrong tap"
data = "digits"
losses = [{ kind = "hint", taps = { nothing = "hidden" } }]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "arms.toml"
    path.write_text(ARMS)
    return path


def test_arms_are_compared_pair_by_pair_and_kept(file: Path, tmp_path: Path) -> None:
    said: list[str] = []
    folder = tmp_path / "runs"
    (table,) = run_bench(read_arms(file), [0, 1], epochs=2, folder=folder, say=said.append)
    rows = {row.name: row for row in table.rows}
    assert list(rows) == [NONE, "kl", "kl again", "wrong tap"]
    assert rows["kl"].scores == rows["kl again"].scores  # the same seeds give the same students
    assert rows["kl"].scores != rows[NONE].scores
    assert rows["kl"].against is not None and rows["kl"].against.difference.mean == pytest.approx(
        sum(a - b for a, b in zip(rows["kl"].scores, rows[NONE].scores, strict=True)) / 2
    )
    assert rows["wrong tap"].problem is not None and "no module `nothing`" in rows["wrong tap"].problem
    assert table.teachers["teacher"] > 80 and json.dumps(table.to_json())
    kept = len(list(folder.rglob("*.json")))
    said.clear()
    (again,) = run_bench(read_arms(file), [0, 1], epochs=2, folder=folder, say=said.append)
    assert again.rows[:3] == table.rows[:3] and len(list(folder.rglob("*.json"))) == kept == 6
    assert not any("train the teacher" in line for line in said)


def test_an_arm_may_train_longer_and_with_settings_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "arms.toml"
    arm = '[[arm]]\nname = "{}"\ndata = "digits"\ntask = 1.0\n'
    path.write_text(arm.format("own") + "longer = 3\ntraining = { learning_rate = 0.03, mixup = 0.5 }\n")
    own = read_arms(path)
    assert own[0].in_words() == "1 task, learning_rate 0.03, mixup 0.5, 3 x epochs"
    (table,) = run_bench(own, [0, 1], epochs=1)
    path.write_text(arm.format("same"))
    digits = experiment("digits")
    settings = digits.settings.model_copy(update={"learning_rate": 0.03, "mixup": 0.5})
    same = Bench(replace(digits, settings=settings), 3)
    expected = [same.judge(same.train(read_arms(path)[0], seed)[0], digits.evaluation) for seed in (0, 1)]
    assert list(table.rows[1].scores) == expected != list(table.rows[0].scores)


def test_the_shipped_arms_name_known_data_and_methods() -> None:
    arms = read_arms(None)
    assert {arm.data for arm in arms} == set(EXPERIMENTS)
    assert len({(arm.data, arm.name) for arm in arms}) == len(arms)
    assert {arm.name for arm in read_arms(None, ["digits"], ["teacher-confidence"])} == {"kl, teacher-confidence"}
    assert [arm.name for arm in read_arms(None, ["digits"], ["kl"])] == ["kl"]  # an arm's name before a kind's


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[arm", "cannot read"),
        ('[[arm]]\ndata = "digits"\nlosses = ["kl"]\nlonger = 0', "arm.0.longer: .*greater than or equal to 1"),
        (
            '[[arm]]\ndata = "digits"\ntask = 1\ntraining = { mixup = -1 }',
            "arm.0.training.mixup: .*greater than or equal to 0",
        ),
        ('[[arm]]\ndata = "digits"\ntask = 1\ntraining = { epochs = 3 }', "arm.0.training: .*give `longer`"),
        ('[[arm]]\ndata = 5\nlosses = ["kl"]', "arm.0.data"),
        ('[[arm]]\nlosses = ["kl"]', "arm.0.data: is missing"),
        ("[arm]\nlosses = []", "arm: "),
        ("arm = [3]", "arm.0: "),
        ('[[arm]]\ndata = "digits"\nname = "no distillation"', "choose another name"),
        ('[[arm]]\ndata = "digits"\nlosses = ["kl"]\n' * 2, "digits has two arms 'kl'"),
        ('[[arm]]\ndata = "digits"\nlosses = ["kll"]', r"arm.0.phase.losses.0: no loss 'kll'; did you mean 'kl'"),
    ],
)
def test_a_wrong_file_is_said(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "arms.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_arms(path)


def test_data_or_methods_without_an_arm_are_said() -> None:
    with pytest.raises(InputError, match="no arms for the data mnist; there are arms for digits"):
        read_arms(None, ["mnist"])
    with pytest.raises(InputError, match="no arm of that name: nothing"):
        read_arms(None, ["digits"], ["nothing"])
