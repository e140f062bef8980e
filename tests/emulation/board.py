"""An arm64 board that QEMU emulates, whose clock ticks once an instruction.

```
Debian's kernel + Python + numpy + ONNX Runtime for arm64  = base archive, built once
what a test puts on the board + the commands to run        = a second archive, unpacked over the first
qemu-system-aarch64 -icount shift=0                        boots both, runs the commands, prints what they said, powers off
```
Nothing of a board is imitated but its instruction set: no cache, no memory, no clock. What it tells is whether the device half
runs on arm64 with the wheels that exist for it, and how many instructions a call takes. Addresses are not randomized: where memory
comes to lie moved the count of one file by 0.5 % from process to process, without that by 0.02 %.
"""

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

TOOLS = ("qemu-system-aarch64", "mmdebstrap", "cpio")
SUITE = "bookworm"
PYTHON = "3.11"  # of that suite
PLATFORMS = ("2_28", "2_27", "2_24", "2_17", "2014")
MARK = "edgekd-emulation:"
TIME_LIMIT_S = 600

_INIT = f"""\
#!/usr/bin/python3
import base64, ctypes, json, os, subprocess
libc = ctypes.CDLL(None)
for kind in ("proc", "sysfs", "devtmpfs"):
    libc.mount(kind.encode(), {{"proc": b"/proc", "sysfs": b"/sys", "devtmpfs": b"/dev"}}[kind], kind.encode(), 0, None)
environment = {{"PATH": "/usr/bin:/bin", "PYTHONPATH": "/site", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "HOME": "/tmp"}}
for command in json.load(open("/commands.json")):
    done = subprocess.run(command, cwd="/work", env=environment, capture_output=True, stdin=subprocess.DEVNULL)
    said = json.dumps([done.returncode, done.stdout.decode(), done.stderr.decode()])
    print("\\n{MARK}" + base64.b64encode(said.encode()).decode(), flush=True)
libc.sync()
libc.reboot(0x4321FEDC)
"""


def missing_tools() -> list[str]:
    """Return the tools that are not installed here."""
    return [tool for tool in TOOLS if shutil.which(tool) is None]


@dataclass(frozen=True)
class Finished:
    """How a command on the board ended, and what it said."""

    code: int
    out: str
    err: str


class Board:
    """The files that every boot shares."""

    def __init__(self, folder: Path) -> None:
        """Build them: Debian's packages by mmdebstrap, wheels by pip. It takes about a minute and 500 MB."""
        self._kernel, self._base, self._folder = folder / "vmlinuz", folder / "base.cpio", folder
        root = folder / "root"
        packages = "--include=python3,libstdc++6,libgcc-s1,linux-image-arm64"
        _run("mmdebstrap", "--quiet", "--variant=extract", "--arch=arm64", packages, SUITE, str(root))
        shutil.move(next((root / "boot").glob("vmlinuz-*")), self._kernel)
        for unused in ("boot", "lib/modules", "usr/lib/modules", "usr/share/doc", "usr/share/locale", "usr/share/man"):
            shutil.rmtree(root / unused, ignore_errors=True)
        _install_wheels(root / "site")
        for name in ("proc", "sys", "dev", "work"):
            (root / name).mkdir(exist_ok=True)
        (root / "init").write_text(_INIT)
        (root / "init").chmod(0o755)
        _archive(root, self._base)
        shutil.rmtree(root)

    def run(self, work: Path, commands: Sequence[Sequence[str]], cpu: str = "cortex-a76") -> list[Finished]:
        """Boot, run the commands one after the other in a copy of the folder `work`, and power off."""
        content = self._folder / "content"
        shutil.rmtree(content, ignore_errors=True)
        shutil.copytree(work, content / "work")
        (content / "commands.json").write_text(json.dumps([list(command) for command in commands]))
        _archive(content, self._folder / "content.cpio")
        memory = self._folder / "memory.cpio"
        memory.write_bytes(self._base.read_bytes() + (self._folder / "content.cpio").read_bytes())
        said = _run(
            *("qemu-system-aarch64", "-M", "virt", "-cpu", cpu, "-smp", "1", "-m", "2000", "-nic", "none"),
            *("-icount", "shift=0,sleep=off", "-nographic", "-no-reboot"),
            *("-kernel", str(self._kernel), "-initrd", str(memory)),
            *("-append", "console=ttyAMA0 panic=-1 quiet norandmaps rdinit=/init"),
        )
        lines = [line.strip().removeprefix(MARK) for line in said.splitlines() if line.strip().startswith(MARK)]
        finished = [Finished(*json.loads(base64.b64decode(line))) for line in lines]
        assert len(finished) == len(commands), f"the board stopped early: {said[-2000:]}"
        return finished


def _install_wheels(folder: Path) -> None:
    platforms = [f"--platform=manylinux{'' if name == '2014' else '_'}{name}_aarch64" for name in PLATFORMS]
    abis = [f"--abi={abi}" for abi in (f"cp{PYTHON.replace('.', '')}", "abi3", "none")]
    _run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", f"--target={folder}", *platforms, *abis),
        *(f"--python-version={PYTHON}", "--implementation=cp", "--only-binary=:all:"),
        *("numpy<2.5", f"onnxruntime=={version('onnxruntime')}"),
    )


def _archive(folder: Path, destination: Path) -> None:
    """Write a folder as the kernel's initial file system."""
    with destination.open("wb") as file:
        names = "\n".join(str(path.relative_to(folder)) for path in sorted(folder.rglob("*")))
        subprocess.run(
            ["cpio", "-o", "-H", "newc", "--quiet"], cwd=folder, input=names.encode(), stdout=file, check=True
        )


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIME_LIMIT_S)
    assert done.returncode == 0, f"{command[0]}: {done.stderr[-2000:]}"
    return done.stdout
