"""The other tools: each writes its int8 files from the same float network and samples, in an environment of its own."""

import hashlib
import json
import os
import subprocess
import sys
import time
import venv
from pathlib import Path

HERE = Path(__file__).parent
_ONNX = ["onnx==1.23.2", "onnxruntime==1.31.1", "ml_dtypes==0.6.0"]
_MODELOPT = [
    "numpy<2.5",
    "ninja",
    "nvidia-ml-py",
    "tqdm",
    "PyYAML",
    "omegaconf",
    "pulp<4",
    "pydantic",
    "regex",
    "rich",
    "safetensors",
    "scipy",
    "cppimport",
    "lief",
    "ml_dtypes",
    "onnxslim",
    "onnxconverter-common~=1.16",
    "setuptools>=80",
    "onnxscript==0.7.2",
    "requests",
    "sympy",
    "huggingface_hub",
]
PIP: dict[str, list[list[str]]] = {  # the arguments of one `pip install` after the other
    "onnxruntime": [_ONNX],
    "nncf": [["nncf==3.4.0", "openvino==2026.4.1", *_ONNX]],
    "modelopt": [  # its own pins allow no onnxruntime for the CPU
        ["torch==2.13.0"],
        ["--no-deps", "nvidia-modelopt==0.47.0", "polygraphy", "onnx-graphsurgeon"],
        ["onnx==1.21.0", "onnxruntime==1.31.1", *_MODELOPT],
    ],
    "torchao": [["torch==2.13.0"], ["torchao==0.18.0", "onnx==1.23.2", "onnxscript==0.7.2", "numpy<2.5"]],
}
QUIET = {"ORT_DISABLE_TELEMETRY": "1", "NNCF_CI": "1"}  # no tool sends anything


def call(command: list[str], threads: int, log: Path) -> float:
    """Run a command, what it prints into a file; return its wall time in seconds.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    start = time.monotonic()
    environment = {**os.environ, **QUIET, "OMP_NUM_THREADS": str(threads)}
    with log.open("wb") as printed:
        subprocess.run(command, env=environment, stdout=printed, stderr=subprocess.STDOUT, check=True)
    return time.monotonic() - start


def python_of(name: str, environments: Path) -> str:
    """Return the interpreter of a tool's own environment, made with pip where it is not there yet."""
    installs = PIP[name]
    folder = environments / f"{name}-{hashlib.sha256(json.dumps(installs).encode()).hexdigest()[:8]}"
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not (folder / "complete").exists():
        print(f"making the environment of {name}", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        for packages in installs:
            subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
        (folder / "complete").touch()
    return str(python)


def write_files(
    name: str, source: Path, samples: Path, network: Path, folder: Path, environments: Path, threads: int
) -> tuple[dict[str, Path], float | None]:
    """Let a tool write its files, or find them; return them by name with the seconds that it took.

    A tool that fails on a network has no file of it and no seconds; its log says why.
    """
    script = HERE / f"write_{name}.py"
    content = source.read_bytes() + samples.read_bytes() + script.read_bytes()
    key = hashlib.sha256(content + json.dumps(PIP[name]).encode()).hexdigest()
    stamp = folder.with_suffix(".json")
    made = json.loads(stamp.read_text()) if stamp.exists() else {}
    if made.get("key") != key:
        python = python_of(name, environments)
        print(f"  {name}", flush=True)
        command = [python, str(script), str(source), str(samples), str(network), str(folder)]
        try:
            made = {"key": key, "seconds": call(command, threads, folder.with_suffix(".log"))}
        except subprocess.CalledProcessError:
            print(f"  {name} failed: {folder.with_suffix('.log')}", file=sys.stderr)
            made = {"key": key, "seconds": None}
        stamp.write_text(json.dumps(made))
    return {f"{name} {path.stem.replace('_', ' ')}": path for path in sorted(folder.glob("*.onnx"))}, made["seconds"]
