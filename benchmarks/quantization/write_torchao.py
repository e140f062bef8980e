"""Write the int8 file of torchao's quantization of exported graphs; a plain script.

`python write_torchao.py FLOAT.onnx CALIBRATION.npy NETWORK.pt2 FOLDER` writes `x86-inductor.onnx`: the quantizer that
torchao ships for x86, as it comes, calibrated sample by sample in batches, and exported by torch.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torchao
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
    X86InductorQuantizer,
    get_default_x86_inductor_quantization_config,
)

BATCH = 32


def main(_source: Path, calibration: Path, network: Path, folder: Path) -> None:
    """Write the file."""
    samples = torch.from_numpy(np.load(calibration))
    folder.mkdir(parents=True, exist_ok=True)
    graph = torch.export.load(network).module(check_guards=False)
    quantizer = X86InductorQuantizer().set_global(get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(graph, quantizer)
    with torch.no_grad():
        for batch in samples.split(BATCH):
            prepared(batch)
    torch.onnx.export(
        convert_pt2e(prepared),
        (samples[:2],),
        str(folder / "x86-inductor.onnx"),
        dynamo=True,
        verbose=False,
        external_data=False,
        input_names=["image"],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=65_536)},),
    )
    print(f"torchao {torchao.__version__}: written", flush=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
