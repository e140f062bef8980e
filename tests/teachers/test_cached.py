import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from edgekd.data import Dataset, Part
from edgekd.errors import InputError, StageError
from edgekd.losses.step import Answer
from edgekd.models.signature import Preprocessing
from edgekd.teachers import Bits, CachedTeacher, FunctionTeacher, Half, TeacherCache, TopK, manifest, store, texts_of
from edgekd.teachers.keys import entry_keys, find, hexadecimal, preprocessing_digest, sample_digests

from .helpers import CLASSES, SAMPLES, SIGNATURE, Network, batch_of, make_part

BATCHES = [list(range(start, start + 8)) for start in range(0, SAMPLES, 8)]


def equal(one: Answer, other: Answer) -> bool:
    pairs = zip(
        [*one.outputs.items(), *one.features.items()], [*other.outputs.items(), *other.features.items()], strict=True
    )
    return all(a == b and x.dtype == y.dtype and torch.equal(x, y) for (a, x), (b, y) in pairs)


def ask(teacher: CachedTeacher, ids: list[int], part: Part | None = None, **other: object) -> Answer:
    inputs, sample_ids = batch_of(part or make_part(), ids)
    return teacher.answer(inputs, sample_ids=sample_ids, **other)  # type: ignore[arg-type]


def filled(folder: Path, live: Network | None = None, **other: object) -> Path:
    teacher = CachedTeacher.open(folder, make_part(), live or Network(), **other)  # type: ignore[arg-type]
    teacher.fill(make_part(), 8)
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_full_answers_are_the_live_ones_bit_for_bit_before_and_after_they_are_written(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    part, live = make_part(), Network(dtype=dtype)
    wanted = [live.answer(batch_of(part, ids)[0], sample_ids=None, taps=("hidden",)) for ids in BATCHES]
    live.batches.clear()
    first = CachedTeacher.open(tmp_path / "cache", part, live)
    for _ in range(2):  # waiting in memory the second time
        assert all(
            equal(ask(first, ids, taps=("hidden",)), answer) for ids, answer in zip(BATCHES, wanted, strict=True)
        )
    first.cache.flush()
    assert all(equal(ask(first, ids, taps=("hidden",)), answer) for ids, answer in zip(BATCHES, wanted, strict=True))
    again = CachedTeacher.open(tmp_path / "cache", part, live)
    assert all(equal(ask(again, ids, taps=("hidden",)), answer) for ids, answer in zip(BATCHES, wanted, strict=True))
    assert live.batches == [8] * 5
    mixed = [39, 3, 3, 17]
    rows = torch.cat([answer.outputs["logits"] for answer in wanted])
    assert torch.equal(ask(again, mixed).output(), rows[mixed])


def test_the_first_answer_is_what_is_stored_in_every_form(tmp_path: Path) -> None:
    live = Network()
    teacher = CachedTeacher.open(
        tmp_path, make_part(), live, outputs=TopK(k=3), features=Half(), forms={"mask": Bits()}
    )
    first = ask(teacher, BATCHES[0], taps=("hidden",))
    teacher.cache.flush()
    assert equal(first, ask(CachedTeacher.open(tmp_path, make_part(), live, outputs=TopK(k=3), features=Half(),
                                               forms={"mask": Bits()}), BATCHES[0], taps=("hidden",)))  # fmt: skip
    true = live.answer(batch_of(make_part(), BATCHES[0])[0], sample_ids=None, taps=("hidden",))
    assert torch.equal(first.output().argmax(1), true.output().argmax(1)) and first.outputs["mask"].dtype == torch.bool
    assert torch.equal(first.outputs["mask"], true.outputs["mask"])
    torch.testing.assert_close(first.features["hidden"], true.features["hidden"], rtol=2.0**-11, atol=2.0**-25)


def test_masks_and_integers_are_whole_unless_they_have_a_form_of_their_own(tmp_path: Path) -> None:
    live = Network()
    teacher = CachedTeacher.open(tmp_path / "a", make_part(), live, outputs=TopK(k=3))
    wanted = live.answer(batch_of(make_part(), [0, 1])[0], sample_ids=None).outputs["mask"]
    assert torch.equal(ask(teacher, [0, 1]).outputs["mask"], wanted)
    named = CachedTeacher.open(tmp_path / "b", make_part(), live, forms={"mask": Half()})
    with pytest.raises(InputError, match="output:mask of network0: values of dtype bool do not go into the form half"):
        ask(named, [0, 1])


def test_only_what_is_missing_is_asked_for(tmp_path: Path) -> None:
    live = Network()
    teacher = CachedTeacher.open(tmp_path, make_part(), live)
    before = ask(teacher, [0, 1, 2])
    after = ask(teacher, [2, 5, 0, 6])
    assert live.batches == [3, 2]
    assert torch.equal(after.output()[[0, 2]], before.output()[[2, 0]])
    ask(teacher, [0, 1], taps=("hidden",), outputs_wanted=False)
    ask(teacher, [0, 1], taps=("hidden",))
    assert live.batches == [3, 2, 2]
    assert torch.equal(ask(teacher, [0]).output(), before.output()[:1])
    unpaired = teacher.answer(batch_of(make_part(), [0])[0], sample_ids=None)
    assert live.batches[-1] == 1 and "logits" in unpaired.outputs


def test_samples_of_equal_content_have_one_answer(tmp_path: Path) -> None:
    part, live = make_part(), Network()
    twice = Part(Dataset({"x": np.concatenate([part.dataset.inputs["x"][:2]] * 2)}), np.arange(4), SIGNATURE)
    teacher = CachedTeacher.open(tmp_path, twice, live)
    answer = ask(teacher, [0, 2], twice).output()
    assert torch.equal(answer[0], answer[1])
    ask(teacher, [1, 0], twice)
    ask(teacher, [3, 2], twice)
    assert live.batches == [2, 1]


def test_every_fixed_augmentation_has_answers_of_its_own(tmp_path: Path) -> None:
    part, live = make_part(), Network()
    inputs, ids = batch_of(part, [4, 5])
    turned = {"x": inputs["x"].flip(1)}
    with CachedTeacher.open(tmp_path, part, live, augmentation="flip").cache as cache:
        teacher = CachedTeacher(cache, live)
        plain, flipped = teacher.answer(inputs, sample_ids=ids), teacher.answer(turned, sample_ids=ids, variant=1)
    again = CachedTeacher.open(tmp_path, part, live, augmentation="flip")
    assert torch.equal(again.answer({"x": inputs["x"] * 0}, sample_ids=ids, variant=1).output(), flipped.output())
    assert torch.equal(again.answer({"x": inputs["x"] * 0}, sample_ids=ids).output(), plain.output())
    assert live.batches == [2, 2] and not torch.equal(plain.output(), flipped.output())


def test_data_that_grow_or_are_shuffled_keep_their_answers(tmp_path: Path) -> None:
    filled(tmp_path)
    old, live = make_part(), Network()
    more = np.concatenate([old.dataset.inputs["x"], np.eye(2, 6, dtype=np.float32)])
    grown = Part(Dataset({"x": more}), np.arange(SAMPLES + 2)[::-1].copy(), SIGNATURE)
    CachedTeacher.open(tmp_path, grown, live).fill(grown, 8)
    assert live.batches == [2]
    assert len(manifest.read_manifest(tmp_path)["data"]) == 2


def test_a_complete_cache_needs_no_teacher(tmp_path: Path) -> None:
    part = make_part()
    filled(tmp_path)
    cache = TeacherCache.open(tmp_path, sample_digests(part), preprocessing=preprocessing_digest(SIGNATURE))
    teacher = CachedTeacher(cache)
    assert teacher.name == "network0" and teacher.licence == "MIT" and not teacher.live_features
    assert torch.equal(
        ask(teacher, [7]).output(), Network().answer(batch_of(part, BATCHES[0])[0], sample_ids=None).output()[7:]
    )
    with pytest.raises(InputError, match="no teacher to ask"):
        ask(teacher, [7], taps=("hidden",))
    with pytest.raises(InputError, match="sample ids go from 0 to 39"):
        teacher.answer({"x": torch.zeros(1, 6)}, sample_ids=torch.tensor([40]))


def test_entries_say_whose_they_are(tmp_path: Path) -> None:
    filled(tmp_path)
    (path,) = tmp_path.glob("shard-*/shard.json")
    entry, whole = json.loads(path.read_text()), json.loads((tmp_path / "manifest.json").read_text())
    assert entry["teacher"] == {
        "name": "network0",
        "identity": Network().identity,
        "licence": "MIT",
        "source": "a test",
    }
    assert entry["data"] == make_part().dataset.digest() and entry["rows"] == SAMPLES
    assert whole["teacher"] == entry["teacher"] and set(whole["versions"]) == {"edgekd", "numpy", "torch"}
    assert list(whole["fields"]) == ["output:logits", "output:mask"]


def test_answers_of_another_teacher_preprocessing_or_form_are_refused(tmp_path: Path) -> None:
    part = make_part()
    filled(tmp_path)
    with pytest.raises(InputError, match="holds answers of another teacher \\(network0"):
        CachedTeacher.open(tmp_path, part, Network(seed=1))
    scaled = SIGNATURE.model_copy(update={"preprocessing": Preprocessing(scale=2.0)})
    with pytest.raises(InputError, match="another preprocessing"):
        CachedTeacher.open(tmp_path, Part(part.dataset, part.indices, scaled), Network())
    with pytest.raises(InputError, match=r"another form \(outputs full, .* asked is outputs top-k k=8 axis=1"):
        CachedTeacher.open(tmp_path, part, Network(), outputs=TopK())
    cache = CachedTeacher.open(tmp_path, part, Network()).cache
    with pytest.raises(InputError, match="another teacher"):
        CachedTeacher(cache, Network(seed=1))


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_text("x")
    with pytest.raises(InputError, match="is not empty and no teacher cache"):
        CachedTeacher.open(tmp_path, make_part(), Network())
    with pytest.raises(InputError, match="no teacher to make one for"):
        TeacherCache.open(tmp_path / "new", sample_digests(make_part()), preprocessing="p")
    (tmp_path / "photo.png").rename(tmp_path / "file")
    with pytest.raises(InputError, match="cannot write to"):
        CachedTeacher.open(tmp_path / "file" / "cache", make_part(), Network())


def test_a_shard_of_another_cache_is_refused(tmp_path: Path) -> None:
    filled(tmp_path / "a")
    filled(tmp_path / "b", Network(seed=1))
    (shard,) = (tmp_path / "b").glob("shard-*")
    shutil.copytree(shard, tmp_path / "a" / shard.name.replace("000000", "000001"))
    with pytest.raises(StageError, match="another teacher or preprocessing"):
        CachedTeacher.open(tmp_path / "a", make_part(), Network())


@pytest.mark.parametrize("name", ["1.npy", "keys.npy", "shard.json"])
def test_a_damaged_file_is_refused_or_its_answers_are_made_again(tmp_path: Path, name: str) -> None:
    filled(tmp_path)
    (path,) = tmp_path.glob(f"shard-*/{name}")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(StageError, match=f"{name} was changed.*delete .*shard-000000"):
        ask(CachedTeacher.open(tmp_path, make_part(), Network()), [0])
    live = Network()
    again = CachedTeacher.open(tmp_path, make_part(), live, refill=True)
    assert not path.exists()
    again.fill(make_part(), 8)
    assert live.batches == [8] * 5 and len(list(tmp_path.glob("shard-*"))) == 1
    live.batches.clear()
    ask(CachedTeacher.open(tmp_path, make_part(), live, refill=True), [0])
    assert live.batches == []


def test_a_missing_file_and_a_broken_manifest_are_named(tmp_path: Path) -> None:
    filled(tmp_path)
    (path,) = tmp_path.glob("shard-*/1.npy")
    path.unlink()
    with pytest.raises(StageError, match="1.npy cannot be read"):
        ask(CachedTeacher.open(tmp_path, make_part(), Network()), [0])
    (tmp_path / "manifest.json").write_text('{"teacher": 1}')
    with pytest.raises(StageError, match="manifest.json cannot be read"):
        CachedTeacher.open(tmp_path, make_part(), Network())


def test_a_kill_keeps_the_shards_that_were_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "SHARD_ROWS", 16)
    filled(tmp_path)
    shards = sorted(tmp_path.glob("shard-*"))
    assert [path.name[:12] for path in shards] == ["shard-000000", "shard-000001", "shard-000002"]
    shards[-1].rename(tmp_path / ".partial-shard-000002-x")  # as if killed before it took its name
    live = Network()
    CachedTeacher.open(tmp_path, make_part(), live).fill(make_part(), 8)
    assert live.batches == [8]
    assert not list(tmp_path.glob(".partial-*")) and sorted(tmp_path.glob("shard-*")) == shards


def test_a_killed_process_leaves_a_cache_that_goes_on(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "from tests.teachers.helpers import *; from edgekd.teachers import CachedTeacher, store\n"
        "store.SHARD_ROWS = 16; live = Network(); part = make_part()\n"
        "teacher = CachedTeacher.open(Path(sys.argv[1]), part, live)\n"
        "for start in range(0, 24, 8):\n"
        "    inputs, ids = batch_of(part, list(range(start, start + 8))); teacher.answer(inputs, sample_ids=ids)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), str(root)], check=False, cwd=root,
                          env={**os.environ, "PYTHONPATH": str(root)})  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    live = Network()
    CachedTeacher.open(tmp_path, make_part(), live).fill(make_part(), 8)
    assert live.batches == [8, 8, 8]  # the last of three batches was not yet written


def test_two_processes_see_what_the_other_has_written(tmp_path: Path) -> None:
    mine, yours = Network(), Network()
    one, two = (CachedTeacher.open(tmp_path, make_part(), live) for live in (mine, yours))
    first = ask(one, BATCHES[0])
    one.cache.flush()
    assert equal(ask(two, BATCHES[0]), first)
    ask(two, BATCHES[1])
    two.cache.flush()
    assert [path.name[:12] for path in sorted(tmp_path.glob("shard-*"))] == ["shard-000000", "shard-000001"]
    ask(one, BATCHES[1])
    assert mine.batches == [8] and yours.batches == [8]


def test_a_cache_that_another_process_holds_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "_PATIENCE", 0)
    with FileLock(tmp_path / ".lock"), pytest.raises(InputError, match="another process writes into"):
        CachedTeacher.open(tmp_path, make_part(), Network())


def test_a_full_disk_loses_nothing_that_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live = Network()
    teacher = CachedTeacher.open(tmp_path, make_part(), live)
    first = ask(teacher, [0, 1])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(store, "write_shard", full)
        with pytest.raises(StageError, match="No space left"):
            teacher.cache.flush()
    assert equal(ask(teacher, [0, 1]), first)
    teacher.cache.flush()
    assert equal(ask(CachedTeacher.open(tmp_path, make_part(), live), [0, 1]), first) and live.batches == [2]


def test_a_teacher_that_changes_its_shape_is_refused(tmp_path: Path) -> None:
    ask(CachedTeacher.open(tmp_path, make_part(), Network()), [0])
    wider = CachedTeacher.open(tmp_path, make_part(), Network(classes=CLASSES + 1))
    with pytest.raises(InputError, match=r"output:logits as float32 \[13\].*float32 \[12\]"):
        ask(wider, [1])


def test_texts_of_different_batches_come_together(tmp_path: Path) -> None:
    def name(arrays: dict[str, np.ndarray]) -> list[str]:
        return ["yes" if row[0] > 0 else "certainly not" for row in arrays["x"]]

    live = FunctionTeacher(name, licence="CC-BY-4.0", source="a test")
    teacher = CachedTeacher.open(tmp_path, make_part(), live, forms={"output": _text()})
    signs = make_part().inputs()["x"][:, 0] > 0
    wanted = ["yes" if sign else "certainly not" for sign in signs]
    for ids in (np.flatnonzero(signs)[:2].tolist(), [0, 1, 2]):
        assert texts_of(ask(teacher, ids).output()) == [wanted[one] for one in ids]
    teacher.fill(make_part(), 8)
    again = CachedTeacher.open(tmp_path, make_part(), live, forms={"output": _text()})
    assert texts_of(ask(again, list(range(SAMPLES))).output()) == wanted


def _text() -> object:
    from edgekd.teachers import Text

    return Text()


def test_top_k_makes_the_cache_small_on_disk(tmp_path: Path) -> None:
    sizes = {}
    for name, form in (("full", None), ("top-k", TopK(k=8))):
        part = make_part(256)
        teacher = CachedTeacher.open(tmp_path / name, part, Network(classes=1000), outputs=form, forms={"mask": Bits()})
        teacher.fill(part)
        (path,) = teacher.cache.folder.glob("shard-*/shard.json")
        files = json.loads(path.read_text())["fields"]["output:logits"].values()
        sizes[name] = sum((path.parent / file).stat().st_size for file, _ in files)
        assert teacher.cache.size() > sizes[name]
    assert sizes["top-k"] <= 0.15 * sizes["full"] / 2  # of full logits in half precision


def test_keys_depend_on_teacher_preprocessing_sample_and_augmentation() -> None:
    samples = sample_digests(make_part())
    made = [
        entry_keys(*of)
        for of in (("t", "p", samples, 0), ("u", "p", samples, 0), ("t", "q", samples, 0), ("t", "p", samples, 1))
    ]
    every = np.concatenate(made)
    assert len(np.unique(every)) == 4 * SAMPLES
    np.testing.assert_array_equal(find(every, made[2]), np.arange(2 * SAMPLES, 3 * SAMPLES))
    assert (find(made[0], made[1]) == -1).all() and (find(made[0][:0], made[1]) == -1).all()
    assert hexadecimal(samples[:2]) == [samples.tobytes()[:32].hex(), samples.tobytes()[32:64].hex()]


def test_a_digest_covers_what_the_teacher_takes() -> None:
    part = make_part()
    more = Part(Dataset(part.dataset.inputs, extras={"map": np.arange(SAMPLES)}), part.indices, SIGNATURE)
    np.testing.assert_array_equal(sample_digests(part), sample_digests(more))
    assert (sample_digests(more, ("x", "map")) != sample_digests(more)).all()
    with pytest.raises(InputError, match="has no map; it has x"):
        sample_digests(part, ("map",))
    assert preprocessing_digest(SIGNATURE) != preprocessing_digest(SIGNATURE, seed=1)


def test_no_sample_gives_empty_rows(tmp_path: Path) -> None:
    filled(tmp_path)
    answer = ask(CachedTeacher.open(tmp_path, make_part(), Network()), [])
    assert answer.output().shape == (0, CLASSES)
