"""Which container this process runs in, as far as it can be told from inside."""

import hashlib
import os
import re
from pathlib import Path

VARIABLE = "EDGEKD_CONTAINER"
_SIGNS = (".dockerenv", "run/.containerenv")
_GROUPS = re.compile(r"docker|containerd|kubepods|libpod|lxc")


def container(root: Path = Path("/")) -> str | None:
    """Return what identifies the container's image, `unknown image` where nothing does, None outside of one.

    The variable `EDGEKD_CONTAINER` comes first: set it to the image's digest. Else it is the image that podman names, or a hash
    of the layers below the container's own, which is the same for one image on one machine.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return named
    if not (any((root / sign).exists() for sign in _SIGNS) or _GROUPS.search(_text(root / "proc/self/cgroup"))):
        return None
    image = re.search(r'^imageid="([0-9a-f]+)"', _text(root / "run/.containerenv"), re.MULTILINE)
    if image:
        return f"image {image[1][:12]}"
    layers = re.search(r"^\S+ \S+ \S+ \S+ / .*[ ,]lowerdir=([^, ]+)", _text(root / "proc/self/mountinfo"), re.MULTILINE)
    if layers:
        return f"layers {hashlib.sha256(layers[1].encode()).hexdigest()[:12]}"
    return "unknown image"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
