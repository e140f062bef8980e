from pathlib import Path

import pytest

from edgekd.verbs.targets import new_target, problems_of, readable_targets


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def changed(old: str, new: str) -> Path:
    path = Path("targets/board.toml") if Path("targets/board.toml").exists() else new_target("board", "raspberry-pi-5")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize(
    ("old", "new", "field", "words"),
    [
        ('family = "raspberry-pi"', "", "family", "add family"),
        ("granularity = 16", "granularty = 16", "channels.granularity", "it is missing"),
        ("granularity = 16", "granularity = 16\ngranularty = 3", "channels.granularty", "did you mean granularity"),
        ("value = 4\n", "value = []\n", "facts.cores.value", "or"),
        ('confidence = "low"', 'confidence = "sure"', "facts.fp32_peak_gflops.confidence", "'high', 'medium' or 'low'"),
        ('name = "board"', 'name = "A Board"', "name", "small letters"),
        ('name = "board"', 'name = "plank"', "name", "plank.toml"),
        ('default_recipe = "prune', 'default_recipe = "squeeze', "default_recipe", "prune-distill-quantize"),
        ('default_runtime = "onnxruntime"', 'default_runtime = "tensorrt"', "the file", "correct one of them"),
        ("[facts.cpu]", '[aliases]\njetson-orin = "mine"\n\n[facts.cpu]', "aliases.jetson-orin", "jetson-agx-orin-64gb"),
        ("value = 4\n", "value = \n", "the file", "repair"),
    ],
)  # fmt: skip
def test_each_problem_names_its_field_and_fix(old: str, new: str, field: str, words: str) -> None:
    found = problems_of(changed(old, new))
    (one,) = [problem for problem in found if problem.field == field]
    assert words in f"{one.problem}; {one.fix}"


def test_all_problems_at_once() -> None:
    changed("granularity = 16", "granularity = 0")
    assert len(problems_of(changed('title = "board"', "title = 3"))) == 2


def test_one_broken_file_hides_no_other() -> None:
    changed("granularity = 16", "granularity = 0")
    targets, broken = readable_targets()
    assert len(targets) == 19 and "targets/board.toml" in broken[0]
