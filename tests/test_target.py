"""Targets: the shipped files, the look-up of names, aliases and paths, and every way a file can be wrong."""

import contextlib
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from edgekd.errors import InputError
from edgekd.resources import shipped
from edgekd.target import QuantizationScheme, Target, load_target, parse_target, target_files

NAMES = (
    "generic-x86",
    "intel-gpu",
    "intel-npu",
    "raspberry-pi-zero-2w",
    "raspberry-pi-4",
    "raspberry-pi-5",
    "jetson-orin-nano-4gb",
    "jetson-orin-nano-8gb",
    "jetson-orin-nano-super",
    "jetson-orin-nx-8gb",
    "jetson-orin-nx-16gb",
    "jetson-agx-orin-32gb",
    "jetson-agx-orin-64gb",
    "jetson-agx-thor",
    "imx500",
    "speck2e",
    "speck2f",
    "loihi2",
    "nir",
)
ALIASES = {
    "raspberry-pi": "raspberry-pi-5",
    "jetson-orin-nano": "jetson-orin-nano-8gb",
    "jetson-orin-nx": "jetson-orin-nx-16gb",
    "jetson-agx-orin": "jetson-agx-orin-64gb",
    "jetson-orin": "jetson-agx-orin-64gb",
    "jetson-thor": "jetson-agx-thor",
}
JETSONS = tuple(name for name in NAMES if name.startswith("jetson-"))

MINIMAL = """\
name = "board"
title = "A board"
family = "test"
default_runtime = "onnxruntime"

[aliases]
plank = "the only board of this test"

[facts.cores]
value = 4
source = "datasheet"
confidence = "high"

[limits]
memory_bytes = 1000

[channels]
granularity = 8
source = "datasheet"
confidence = "low"

[runtime.onnxruntime]
precisions = ["fp32", "int8"]
opset = 20

[runtime.onnxruntime.quantization]
activation_dtype = "uint8"
"""


@pytest.fixture(autouse=True)
def _nothing_but_shipped_targets(tmp_path, monkeypatch):
    """Run in an empty folder with an empty user configuration."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def write_target(path: Path, text: str = MINIMAL, **changes: str) -> Path:
    """Write a target file; `changes` replaces the values of top-level keys."""
    for key, value in changes.items():
        text, count = re.subn(rf"(?m)^{key} = .*$", f'{key} = "{value}"', text)
        assert count == 1
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def broken(path: Path, old: str, new: str) -> str:
    """Return the error message for the minimal target with `old` replaced by `new`."""
    assert MINIMAL.count(old) == 1
    write_target(path, MINIMAL.replace(old, new))
    with pytest.raises(InputError) as caught:
        parse_target(path)
    assert caught.value.exit_code == 2
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------------------------------- the shipped files
def test_exactly_the_canonical_targets_are_shipped():
    assert sorted(NAMES) == list(target_files())


@pytest.mark.parametrize("name", NAMES)
def test_shipped_target_loads_under_its_own_name(name):
    target, meaning = load_target(name)
    assert target.name == name
    assert meaning is None
    assert target.default_recipe == "prune-distill-quantize"


@pytest.mark.parametrize("name", NAMES)
def test_shipped_file_is_uniform(name):
    lines = (shipped("targets") / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    keys = [line.split(" = ")[0] for line in lines[1:6]]
    assert keys == ["name", "title", "family", "default_runtime", "default_recipe"]
    order = ["aliases", "facts", "limits", "channels", "runtime"]
    sections = [re.split(r"[\].]", line[1:])[0] for line in lines if re.match(r"\[[a-z]", line)]
    assert sections == sorted(sections, key=order.index)
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("name", NAMES)
def test_every_statement_names_a_public_source(name):
    target, _ = load_target(name)
    statements = {**target.facts, "channels": target.channels}
    for key, statement in statements.items():
        assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", key)
        assert statement.source.strip()
        if "derived" in statement.source:
            assert statement.confidence != "high", key
        if "unchecked" in statement.source or "assumed" in statement.source:
            assert statement.confidence == "low", key
    for text in (shipped("targets") / f"{name}.toml").read_text(encoding="utf-8").splitlines():
        assert not re.search(r"/work|/home|/tmp|shared/|reference/|pypi|nvcr\.io|registry", text), text


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_alias_says_what_it_means(alias, name):
    target, meaning = load_target(alias)
    assert target.name == name
    assert meaning == f"{alias} means {name}: {target.aliases[alias]}"
    assert target.aliases[alias].strip()


def test_aliases_are_complete_and_collide_with_nothing():
    seen = [alias for name in NAMES for alias in load_target(name)[0].aliases]
    assert sorted(seen) == sorted(ALIASES)
    assert len(seen) == len(set(seen))
    assert not set(seen) & set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_int8_runtime_has_a_scheme_and_no_other_runtime_has_one(name):
    target, _ = load_target(name)
    for runtime in target.runtime.values():
        assert ("int8" in runtime.precisions) == (runtime.quantization is not None)


@pytest.mark.parametrize("name", JETSONS)
def test_tensorrt_gets_symmetric_activations_and_its_cpu_unsigned_ones(name):
    target, _ = load_target(name)
    assert target.default_runtime == "tensorrt"
    scheme = target.runtime["tensorrt"].quantization
    assert (scheme.activation_dtype, scheme.activation_symmetric) == ("int8", True)
    assert (scheme.weight_symmetric, scheme.per_channel, scheme.weight_axis) == (True, True, 0)
    assert target.runtime["onnxruntime"].quantization.activation_dtype == "uint8"


@pytest.mark.parametrize("name", JETSONS)
def test_jetson_figures_agree_with_each_other(name):
    target, _ = load_target(name)
    facts = {key: fact.value for key, fact in target.facts.items()}
    assert target.limits.memory_bytes == facts["memory_gib"] * 2**30
    assert facts["fp16_dense_tflops"] == pytest.approx(facts["int8_dense_tops"] / 2, rel=0.02)
    if name != "jetson-agx-thor":  # its rate per clock is another one
        by_formula = facts["gpu_sm"] * 4096 * facts["gpu_clock_mhz"] / 1e6
        assert facts["int8_dense_tops"] == pytest.approx(by_formula, rel=0.02)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("raspberry-pi-")])
def test_raspberry_pi_gets_unsigned_activations(name):
    target, _ = load_target(name)
    scheme = target.runtime[target.default_runtime].quantization
    assert (scheme.activation_dtype, scheme.activation_symmetric, scheme.weight_symmetric) == ("uint8", False, True)
    assert target.facts["dotprod"].value is (name == "raspberry-pi-5")
    assert ("hardly pays" in target.runtime["onnxruntime"].note) is (name != "raspberry-pi-5")
    assert target.facts["dram_bandwidth_measured_gbps"].value < target.facts["dram_bandwidth_gbps"].value


def test_imx500_limits():
    target, _ = load_target("imx500")
    assert target.limits.model_bytes == target.facts["memory_total_bytes"].value == 8388480
    assert target.facts["reserved_bytes"].value == 1024
    assert target.limits.input_channels == 3
    assert target.channels.granularity == 32
    assert target.runtime["imx500"].batch == 1
    scheme = target.runtime["imx500"].quantization
    assert scheme.power_of_two
    assert scheme.activation_symmetric
    operators = target.limits.operators
    assert {"Conv", "Relu", "Gelu", "ReduceMean"} <= set(operators)
    assert not {"Erf", "Elu", "CumSum", "Softplus"} & set(operators)
    assert len(operators) == len(set(operators))


@pytest.mark.parametrize("name", ["speck2e", "speck2f", "loihi2", "nir"])
def test_neuromorphic_targets_run_spikes_only(name):
    target, _ = load_target(name)
    runtime = target.runtime[target.default_runtime]
    assert target.default_runtime == ("speck" if name.startswith("speck") else "nir")
    assert runtime.precisions == ("spike",)
    if name.startswith("speck"):
        for kind in ("kernel", "neuron"):
            by_core = [int(value) for value in target.facts[f"{kind}_memory_ki"].value.split(",")]
            assert len(by_core) == target.facts["cores"].value
            assert sum(by_core) == target.facts[f"{kind}_memory_total_ki"].value


# ------------------------------------------------------------------------------------------------- the look-up
@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("rasberry-pi-5", "raspberry-pi-5"),
        ("jetson orin", "jetson-orin"),
        ("jetson-nano", "jetson-orin-nano"),
        ("speck2", "speck2e"),
    ],
)
def test_unknown_name_shows_the_nearest(name, nearest):
    with pytest.raises(InputError, match="unknown target") as caught:
        load_target(name)
    assert nearest in str(caught.value).split("nearest: ")[1].split(", ")


def test_a_name_near_to_nothing_points_to_the_list():
    with pytest.raises(InputError, match="edgekd targets list"):
        load_target("")


def test_explicit_path(tmp_path):
    path = write_target(tmp_path / "anywhere.toml")
    target, meaning = load_target(str(path))
    assert target.name == "board"
    assert meaning is None
    write_target(Path("here.toml"), title="Beside")
    assert load_target("here.toml")[0].title == "Beside"


@pytest.mark.parametrize("path", ["missing.toml", "folder/missing", "/", "nul\0/x"])
def test_a_path_that_cannot_be_read(path):
    with pytest.raises(InputError) as caught:
        load_target(path)
    assert path in str(caught.value)


def test_targets_of_the_current_folder_win(tmp_path):
    write_target(tmp_path / "configuration" / "edgekd" / "targets" / "nir.toml", name="nir", title="From the user")
    assert load_target("nir")[0].title == "From the user"
    write_target(Path("targets/nir.toml"), name="nir", title="From here")
    assert load_target("nir")[0].title == "From here"
    assert target_files()["nir"] == Path("targets/nir.toml")
    assert set(target_files()) == set(NAMES)


def test_user_configuration_folder(tmp_path, monkeypatch):
    write_target(tmp_path / "configuration" / "edgekd" / "targets" / "board.toml")
    assert load_target("board")[0].title == "A board"
    target, meaning = load_target("plank")
    assert (target.name, meaning) == ("board", "plank means board: the only board of this test")
    monkeypatch.delenv("XDG_CONFIG_HOME")
    with pytest.raises(InputError, match="unknown target 'board'"):
        load_target("board")
    write_target(tmp_path / "home" / ".config" / "edgekd" / "targets" / "board.toml", title="From home")
    assert load_target("board")[0].title == "From home"


# ------------------------------------------------------------------------------------------------ broken files
def test_minimal_target_takes_the_defaults(tmp_path):
    target = parse_target(write_target(tmp_path / "board.toml"))
    assert target.default_recipe == "prune-distill-quantize"
    assert target.limits.model_bytes is None
    assert target.runtime["onnxruntime"].batch == "dynamic"
    assert target.runtime["onnxruntime"].threads == 1
    with pytest.raises(ValueError, match="frozen"):
        target.name = "other"


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('source = "datasheet"\nconfidence = "high"', 'confidence = "high"', "facts.cores.source: is missing"),
        ('source = "datasheet"\nconfidence = "high"', 'source = ""\nconfidence = "high"', "facts.cores.source"),
        ('confidence = "high"', "", "facts.cores.confidence: is missing"),
        ('confidence = "high"', 'confidence = "certain"', "facts.cores.confidence"),
        ("value = 4", "value = []", "facts.cores.value"),
        ('source = "datasheet"\nconfidence = "low"', 'confidence = "low"', "channels.source: is missing"),
        ('title = "A board"', "", "title: is missing"),
        ('title = "A board"', 'title = "A board"\ncolour = "red"', "colour: there is no such setting"),
        ('name = "board"', 'name = "A Board"', "name: "),
        (
            'title = "A board"',
            'title = "A board"\nboard_models = "A board"',
            "board_models: must be a list",
        ),
        ('title = "A board"', 'title = "A board"\nboard_models = [""]', "board_models.0: "),
        ('title = "A board"', 'title = "A board"\narchitectures = [64]', "architectures.0: "),
        ("granularity = 8", "granularity = 0", "channels.granularity"),
        ("granularity = 8", 'granularity = "many"', "channels.granularity"),
        ("opset = 20", "opset = 17", "runtime.onnxruntime.opset"),
        ('["fp32", "int8"]', "[]", "runtime.onnxruntime.precisions"),
        ('["fp32", "int8"]', '["fp32", "int7"]', "runtime.onnxruntime.precisions.1"),
        ('activation_dtype = "uint8"', "bits = 8", "runtime.onnxruntime.quantization.bits"),
        ("memory_bytes = 1000", "memory_bytes = -1", "limits.memory_bytes"),
    ],
)
def test_wrong_field_is_named(tmp_path, old, new, named):
    assert named in broken(tmp_path / "board.toml", old, new)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"activation_symmetric": True}, 'set activation_dtype = "int8" or activation_symmetric = false'),
        ({"weight_range": "seven-bit", "weight_dtype": "int4"}, 'set it to "full"'),
        ({"weight_range": "seven-bit", "weight_symmetric": False}, 'set it to "full"'),
        ({"power_of_two": True, "weight_symmetric": False}, "need weight_symmetric = true"),
        ({"weight_axis": 3, "per_channel": False}, "leave weight_axis out"),
        ({"weight_axis": 4}, "less than or equal to 3"),
    ],
)
def test_a_scheme_that_contradicts_itself_is_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        QuantizationScheme(**fields)


def test_a_scheme_needs_a_runtime_with_integers(tmp_path):
    assert 'names neither "int8" nor "int4"' in broken(tmp_path / "board.toml", '"fp32", "int8"', '"fp32", "fp16"')


def test_default_runtime_needs_its_section(tmp_path):
    message = broken(tmp_path / "board.toml", 'default_runtime = "onnxruntime"', 'default_runtime = "tensorrt"')
    assert "default_runtime 'tensorrt' has no section [runtime.tensorrt]" in message


@pytest.mark.parametrize(
    "new",
    [
        "value = ",
        "value = 4 4",
        "value = 1\nvalue = 2",
        "value = 2026-02-31",
        "value = " + "9" * 5000,
        "value = " + "[" * 20000,
    ],
    ids=["no value", "two values", "twice", "no such day", "integer too long", "nested too deep"],
)
def test_broken_toml(tmp_path, new):
    assert "is not valid TOML" in broken(tmp_path / "board.toml", "value = 4", new)


def test_a_file_that_is_not_utf8(tmp_path):
    path = tmp_path / "board.toml"
    path.write_bytes(MINIMAL.encode() + b'# \xff\xfe "')
    with pytest.raises(InputError, match=r"board\.toml is not valid TOML"):
        parse_target(path)


def test_a_folder_in_place_of_a_file(tmp_path):
    (tmp_path / "board.toml").mkdir()
    with pytest.raises(InputError, match=r"cannot read the target file .*board\.toml"):
        parse_target(tmp_path / "board.toml")


# -------------------------------------------------------------------------------------------------- properties
LITERALS = [
    *("true", "0", "-1", "1.5", "nan", "-inf", "9" * 400, '""', '"text"', "[]", "[[1], {}]", "{}"),
    *('{ a = "b" }', "2026-11-22", "07:32:00", '"\\u0000"', "dynamic", "", "[" * 40, "{ a = " * 10),
]


@st.composite
def broken_files(draw) -> bytes:
    """Draw a shipped target or the minimal one after one to four mutations."""
    name = draw(st.sampled_from(["minimal", *NAMES]))
    text = MINIMAL if name == "minimal" else (shipped("targets") / f"{name}.toml").read_text(encoding="utf-8")
    for _ in range(draw(st.integers(1, 4))):
        lines = text.split("\n")
        at = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["delete", "value", "key", "repeat", "move", "text", "cut"])):
            case "delete":
                del lines[at : at + draw(st.integers(1, 3))]
            case "value":
                lines[at] = lines[at].split("=")[0] + "= " + draw(st.sampled_from(LITERALS))
            case "key":
                lines[at] = lines[at][draw(st.integers(0, len(lines[at]))) :]
            case "repeat":
                lines.insert(at, lines[draw(st.integers(0, len(lines) - 1))])
            case "move":
                lines.insert(draw(st.integers(0, len(lines))), lines.pop(at))
            case "text":
                lines.insert(at, draw(st.text(max_size=40)))
            case "cut":
                lines = lines[: at + 1]
        text = "\n".join(lines)
    content = text.encode("utf-8")
    if draw(st.booleans()):
        at = draw(st.integers(0, len(content)))
        content = content[:at] + draw(st.binary(max_size=12)) + content[at + draw(st.integers(0, 8)) :]
    return content


def load_or_refuse(content: bytes) -> None:
    """Parse the bytes as a target file: it loads, or an InputError of one line names the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "board.toml"
        path.write_bytes(content)
        try:
            assert isinstance(parse_target(path), Target)
        except InputError as error:
            assert "board.toml" in str(error)


@settings(max_examples=400, derandomize=True, deadline=None, database=None)
@given(broken_files())
def test_a_mutated_file_loads_or_is_refused(content):
    load_or_refuse(content)


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(st.one_of(st.binary(max_size=300), st.text(max_size=300).map(lambda text: text.encode("utf-8"))))
def test_random_content_loads_or_is_refused(content):
    load_or_refuse(content)


@settings(max_examples=50, derandomize=True, deadline=None, database=None)
@given(st.text(max_size=30))
def test_a_random_name_is_refused(name):
    with contextlib.suppress(InputError):
        assert load_target(name)[0].name in NAMES
