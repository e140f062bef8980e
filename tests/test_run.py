import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from edgekd.errors import InputError
from edgekd.models.signature import Signature, TensorSpec
from edgekd.run import Run, find_runs
from edgekd.state import ModelState, OnnxForm

SIGNATURE = Signature(inputs=(TensorSpec(name="x", shape=("batch", 2)),))


def quiet(message: str) -> None:
    """Say nothing."""


def tiny_graph() -> bytes:
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 2]) for name in ("x", "y")]
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    return onnx.helper.make_model(onnx.helper.make_graph([node], "tiny", value[:1], value[1:])).SerializeToString()


def stage(run: Run, ingredients: dict[str, object], content: bytes = tiny_graph()) -> int:
    """Run a stage that writes these bytes; return how often it was really made."""
    made = []

    def make(workdir: Path) -> ModelState:
        made.append(1)
        (workdir / "model.onnx").write_bytes(content)
        return ModelState(SIGNATURE, OnnxForm(workdir / "model.onnx"))

    state, _ = run.stage("toy", ingredients, None, make)
    assert isinstance(state.form, OnnxForm) and state.form.path.read_bytes() == content
    return len(made)


def test_the_same_ingredients_are_reused_and_others_are_not(tmp_path: Path) -> None:
    why: list[str] = []
    with Run.open(tmp_path / "run", quiet, explain=why.append) as run:
        assert [stage(run, {"seed": seed}) for seed in (0, 0, 1)] == [1, 0, 1]
    assert why[0] == "toy: made: nothing stored" and "reused" in why[1] and "other seed" in why[2]
    with Run.open(tmp_path / "run", quiet, resume=False) as run:
        assert stage(run, {"seed": 0}) == 1


def test_another_version_of_the_software_is_another_ingredient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    why: list[str] = []
    with Run.open(tmp_path / "run", quiet, explain=why.append) as run:
        stage(run, {"seed": 0})
        monkeypatch.setattr("edgekd.run.code_version", lambda: {"edgekd": "changed"})
        assert stage(run, {"seed": 0}) == 1 and "other software" in why[-1]


def test_a_damaged_output_is_made_again(tmp_path: Path) -> None:
    why: list[str] = []
    with Run.open(tmp_path / "run", quiet, explain=why.append) as run:
        stage(run, {"seed": 0})
        (path,) = (tmp_path / "run" / "stages").glob("toy-*/model.onnx")
        path.write_bytes(b"other")
        assert stage(run, {"seed": 0}) == 1 and "was changed" in why[-1]


def test_a_failed_stage_leaves_nothing(tmp_path: Path) -> None:
    def fail(workdir: Path) -> ModelState:
        (workdir / "half").write_text("x")
        raise RuntimeError

    with Run.open(tmp_path / "run", quiet) as run:
        with pytest.raises(RuntimeError):
            run.stage("toy", {}, None, fail)
        assert list((tmp_path / "run" / "stages").iterdir()) == []


def test_two_runs_in_one_directory_do_not_mix(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edgekd.run import Run; from edgekd.errors import InputError\n"
        "try:\n"
        "    with Run.open(Path(sys.argv[1]), print): print('got in')\n"
        "except InputError as error: print(error)\n"
    )
    with Run.open(tmp_path / "run", quiet):
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "run"], capture_output=True, text=True, check=True
        )
    assert "another run is at work" in done.stdout
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "run"], capture_output=True, text=True, check=True)
    assert "got in" in done.stdout


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="no run of edgekd"), Run.open(tmp_path, quiet):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_where_the_directory_should_be_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(InputError, match="cannot write to"), Run.open(tmp_path / "run", quiet):
        pass


def test_messages_are_kept_with_their_time(tmp_path: Path) -> None:
    said: list[str] = []
    with Run.open(tmp_path / "run", said.append) as run:
        run.log("hello")
    entry = json.loads((tmp_path / "run" / "log.jsonl").read_text())
    assert said == ["hello"] and entry["message"] == "hello" and entry["time"]


def test_remembered_values_depend_on_their_ingredients(tmp_path: Path) -> None:
    with Run.open(tmp_path / "run", quiet) as run:
        values = [run.remembered("score", {"file": name}, lambda name=name: {"from": name}) for name in "aba"]
        again = run.remembered("score", {"file": "a"}, lambda: pytest.fail("computed twice"))
    assert values[0] == again == {"from": "a"} and values[1] == {"from": "b"}


def test_what_is_remembered_is_explained_and_obtained_again_when_asked(tmp_path: Path) -> None:
    why: list[str] = []
    for resume in (True, True, False):
        with Run.open(tmp_path / "run", quiet, resume=resume, explain=why.append) as run:
            run.remembered("latency", {"file": "a"}, lambda: len(why))
    assert "nothing stored" in why[0] and "reused" in why[1] and "asked not to resume" in why[2]
    (path,) = (tmp_path / "run" / "figures").iterdir()
    assert json.loads(path.read_text())["value"] == 3 and json.loads(path.read_text())["time"]


def test_a_run_killed_in_its_first_write_can_be_opened_again(tmp_path: Path) -> None:
    (tmp_path / ".partial-run.json-abc").write_text("half")
    with Run.open(tmp_path, quiet):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "run.json"]


def test_what_was_half_written_is_cleared_everywhere(tmp_path: Path) -> None:
    with Run.open(tmp_path, quiet):
        pass
    for name in (".partial-report.json-abc", "artifact/.partial-pi-xyz/model.onnx", "onnx/.partial-baseline.onnx"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("half")
    with Run.open(tmp_path, quiet):
        assert not list(tmp_path.rglob(".partial-*"))


def test_runs_are_found(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with Run.open(tmp_path / name, quiet):
            pass
    assert {path.name for path in find_runs(tmp_path)} == {"one", "two"}


def test_a_new_directory_is_removed_again_where_the_run_fails_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Run.open(tmp_path / "runs" / "one", quiet) as run:
        run.describe("net", "layers", ["pi"])
        run.log("hello")
        (run.directory / "stages" / "baseline-0").mkdir(parents=True)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RuntimeError), Run.open(tmp_path, quiet):  # it was there before
        raise RuntimeError
    assert tmp_path.is_dir()


@pytest.mark.parametrize(
    "work", ["stages/prune-0/state.json", "training/distill.pt", "teachers/a/answers", "report.json"]
)
def test_what_a_failed_run_has_done_is_kept(tmp_path: Path, work: str) -> None:
    with pytest.raises(KeyboardInterrupt), Run.open(tmp_path / "run", quiet) as run:
        (run.directory / work).parent.mkdir(parents=True, exist_ok=True)
        (run.directory / work).write_text("x")
        raise KeyboardInterrupt
    assert (tmp_path / "run" / work).is_file()


@pytest.mark.parametrize(("model", "structure"), [("other", "layers"), ("net", "other layers")])
def test_the_run_of_another_network_is_not_overwritten(tmp_path: Path, model: str, structure: str) -> None:
    with Run.open(tmp_path / "run", quiet) as run:
        run.describe("net", "layers", ["pi"])
    with Run.open(tmp_path / "run", quiet) as run:
        run.describe("net", "layers", ["x86"])
        run.describe("net", None, ["x86"])  # what a run left, taken as a model
        run.describe("net", "layers", ["x86"])
    with pytest.raises(InputError, match="another network.*--no-resume"), Run.open(tmp_path / "run", quiet) as run:
        run.describe(model, structure, ["x86"])
    assert json.loads((tmp_path / "run" / "run.json").read_text())["model"] == "net"
    with Run.open(tmp_path / "run", quiet, resume=False) as run:
        run.describe(model, structure, ["x86"])
