from pathlib import Path

import pytest

from edgekd.device.gate.container import container

OVERLAY = "600 500 0:50 / / rw,relatime - overlay overlay rw,lowerdir=/l/A:/l/B,upperdir=/u/{},workdir=/w/{}\n"


@pytest.fixture(autouse=True)
def _unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEKD_CONTAINER", raising=False)


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / {"docker": ".dockerenv", "podman": "run/.containerenv", "mounts": "proc/self/mountinfo"}[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_outside_of_one(tmp_path: Path) -> None:
    assert container(write(tmp_path, mounts=OVERLAY)) is None


def test_two_containers_of_one_image_are_the_same(tmp_path: Path) -> None:
    one = container(write(tmp_path / "1", docker="", mounts=OVERLAY.format("x", "x")))
    two = container(write(tmp_path / "2", docker="", mounts=OVERLAY.format("y", "y")))
    other = container(write(tmp_path / "3", docker="", mounts=OVERLAY.replace("/l/B", "/l/C")))
    assert one == two != other and str(one).startswith("layers ")


def test_an_image_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        container(write(tmp_path / "1", podman='engine="podman"\nimageid="0123456789abcdef"\n')) == "image 0123456789ab"
    )
    assert container(write(tmp_path / "2", docker="")) == "unknown image"
    monkeypatch.setenv("EDGEKD_CONTAINER", "sha256:abc")
    assert container(tmp_path) == "sha256:abc"
