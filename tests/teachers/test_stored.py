from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from edgekd.errors import InputError, StageError
from edgekd.files import sha256
from edgekd.teachers import StoredTeacher, store_outputs

from .helpers import SAMPLES, batch_of, make_part

LOGITS = np.arange(SAMPLES * 3, dtype=np.float32).reshape(SAMPLES, 3)


def stored(folder: Path, **outputs: np.ndarray) -> Path:
    data = make_part().dataset.digest()
    store_outputs(folder, outputs or {"logits": LOGITS}, name="large", licence="MIT", source='a "test"\n', data=data)
    return folder


def described(folder: Path, *names: str, **changes: str) -> Path:
    fields = {"name": "large", "licence": "MIT", "source": "a test", "data": make_part().dataset.digest(), **changes}
    lines = [f'{name} = "{value}"' for name, value in fields.items()]
    lines += ["[files]", *(f'"{name}" = "{sha256(folder / name)}"' for name in names)]
    (folder / "teacher.toml").write_text("\n".join(lines))
    return folder


def test_rows_are_those_of_the_samples(tmp_path: Path) -> None:
    part = make_part()
    teacher = StoredTeacher.of(stored(tmp_path / "large", logits=LOGITS, mask=LOGITS > 5), part)
    inputs, ids = batch_of(part, [3, 0, 3])
    answer = teacher.answer(inputs, sample_ids=ids)
    assert list(answer.outputs) == ["logits", "mask"]
    np.testing.assert_array_equal(answer.output(), LOGITS[part.indices[[3, 0, 3]]])
    assert (teacher.name, teacher.licence, teacher.source) == ("large", "MIT", 'a "test"\n')
    assert teacher.identity == StoredTeacher.identity_of(tmp_path / "large")


def test_every_kind_of_file_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "some.npz", logits=LOGITS, mask=LOGITS > 5)
    save_file({"embedding": torch.from_numpy(LOGITS).bfloat16()}, tmp_path / "more.safetensors")
    np.save(tmp_path / "depth.npy", LOGITS)
    teacher = StoredTeacher.of(described(tmp_path, "some.npz", "more.safetensors", "depth.npy"), make_part())
    inputs, ids = batch_of(make_part(), [1])
    outputs = teacher.answer(inputs, sample_ids=ids).outputs
    assert list(outputs) == ["logits", "mask", "embedding", "depth"] and outputs["embedding"].dtype == torch.bfloat16


def test_answers_to_other_data_and_changed_files_are_refused(tmp_path: Path) -> None:
    folder = stored(tmp_path / "large")
    with pytest.raises(InputError, match="holds answers to other data"):
        StoredTeacher.of(folder, make_part(seed=3))
    identity = StoredTeacher.identity_of(folder)
    np.save(folder / "logits.npy", LOGITS + 1)
    with pytest.raises(InputError, match="logits.npy was changed"):
        StoredTeacher.of(folder, make_part())
    assert StoredTeacher.identity_of(described(folder, "logits.npy")) != identity
    (folder / "logits.npy").unlink()
    with pytest.raises(InputError, match="names logits.npy, which is no file"):
        StoredTeacher.of(folder, make_part())


def test_rows_are_counted(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="need at least 40 rows; logits has 39"):
        StoredTeacher.of(stored(tmp_path / "few", logits=LOGITS[:-1]), make_part())
    with pytest.raises(InputError, match="logits has 80 rows, the data set 40 samples"):
        StoredTeacher.of(stored(tmp_path / "many", logits=np.concatenate([LOGITS, LOGITS])), make_part())
    with pytest.raises(InputError, match="single value"):
        StoredTeacher.of(stored(tmp_path / "one", logits=np.array(1.0)), make_part())
    teacher = StoredTeacher.of(stored(tmp_path / "right"), make_part())
    inputs, _ = batch_of(make_part(), [1])
    with pytest.raises(InputError, match="from 0 to 39, not from -1 to 40"):
        teacher.answer(inputs, sample_ids=torch.tensor([-1, 40]))
    with pytest.raises(InputError, match="samples of its own data only"):
        teacher.answer(inputs, sample_ids=None)
    with pytest.raises(InputError, match="black box"):
        teacher.answer(inputs, sample_ids=torch.tensor([0]), taps=("layer",))


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no teacher\.toml"):
        StoredTeacher.identity_of(tmp_path)
    (tmp_path / "teacher.toml").write_text("name = ")
    with pytest.raises(InputError, match="cannot read"):
        StoredTeacher.identity_of(tmp_path)
    (tmp_path / "teacher.toml").write_text('name = "a"')
    with pytest.raises(InputError, match="licence: is missing"):
        StoredTeacher.identity_of(tmp_path)
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}] * SAMPLES), allow_pickle=True)
    (tmp_path / "torn.npz").write_bytes(b"PK")
    (tmp_path / "torn.safetensors").write_bytes(b"x")
    (tmp_path / "table.csv").write_text("1,2")
    for name, message in [
        ("pickled.npy", "pickled objects are refused"),
        ("torn.npz", "not a readable"),
        ("torn.safetensors", "cannot read"),
        ("table.csv", "are .npy, .npz or .safetensors"),
    ]:
        with pytest.raises(InputError, match=message):
            StoredTeacher.of(described(tmp_path, name), make_part())
    np.savez(tmp_path / "a.npz", logits=LOGITS)
    np.save(tmp_path / "logits.npy", LOGITS)
    with pytest.raises(InputError, match="two files hold an output logits"):
        StoredTeacher.of(described(tmp_path, "a.npz", "logits.npy"), make_part())


def test_names_stay_inside_the_folder_and_numbers_are_numbers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the names of outputs are file names"):
        stored(tmp_path / "large", **{"../logits": LOGITS})
    np.save(tmp_path / "logits.npy", LOGITS)
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match="no file beside it"):
        StoredTeacher.of(described(tmp_path / "in", "../logits.npy"), make_part())
    teacher = StoredTeacher.of(stored(tmp_path / "large", logits=LOGITS * np.nan), make_part())
    inputs, ids = batch_of(make_part(), [1])
    with pytest.raises(StageError, match="output logits holds NaN"):
        teacher.answer(inputs, sample_ids=ids)
