import json
from pathlib import Path

import pytest

from edgekd.errors import InputError
from edgekd.verbs.methods.bench import NONE, read_arms, run_bench
from edgekd.verbs.methods.experiments import EXPERIMENTS

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
    assert rows["kl"].difference is not None and rows["kl"].difference.mean == pytest.approx(
        sum(a - b for a, b in zip(rows["kl"].scores, rows[NONE].scores, strict=True)) / 2
    )
    assert rows["wrong tap"].problem is not None and "no module `nothing`" in rows["wrong tap"].problem
    assert table.teachers["teacher"] > 80 and json.dumps(table.to_json())
    kept = len(list(folder.rglob("*.json")))
    said.clear()
    (again,) = run_bench(read_arms(file), [0, 1], epochs=2, folder=folder, say=said.append)
    assert again.rows[:3] == table.rows[:3] and len(list(folder.rglob("*.json"))) == kept == 6
    assert not any("train the teacher" in line for line in said)


def test_an_arm_may_train_longer(tmp_path: Path) -> None:
    path = tmp_path / "arms.toml"
    path.write_text('[[arm]]\nname = "long"\ndata = "digits"\ntask = 1.0\nlonger = 3\n')
    (long,) = run_bench(read_arms(path), [0, 1], epochs=1)
    path.write_text('[[arm]]\nname = "same"\ndata = "digits"\ntask = 1.0\n')
    (three,) = run_bench(read_arms(path), [0, 1], epochs=3)
    scores = {row.name: row.scores for row in (*long.rows, *three.rows)}
    assert scores["long"] == scores["same"]
    assert "3 x epochs" in read_arms(None, ["fashion-mnist"], ["no distillation, 3 x epochs"])[0].in_words()


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
        ('[[arm]]\ndata = 5\nlosses = ["kl"]', "arm.0.data"),
        ('[[arm]]\nlosses = ["kl"]', "arm.0.data: Field required"),
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
