r"""Energy as operations times picojoules: a convention that compares networks, neither a measurement nor a board's own figure.

$$ E = \sum_k M_k E_{mac} + A_k E_{add} \qquad\text{and}\qquad E_{moved} = \sum_k B_k E_{byte} $$

Source: Horowitz, Computing's energy problem (and what we can do about it), ISSCC 2014, 45 nm at 0.9 V: a multiplication plus an
addition of the width; DRAM at 640 pJ for 32 bits, as if every kernel read and wrote all of its tensors there.
"""

from collections.abc import Sequence

from edgekd.figures import Figure
from edgekd.predict.features import Kernel, Width

CONVENTION = "operations x picojoule, 45 nm (Horowitz, ISSCC 2014)"
MULTIPLY_ADD_PJ: dict[Width, float] = {"fp32": 3.7 + 0.9, "fp16": 1.1 + 0.4, "int8": 0.2 + 0.03}
ADD_PJ: dict[Width, float] = {"fp32": 0.9, "fp16": 0.4, "int8": 0.03}
DRAM_BYTE_PJ = 640 / 4


def estimate_energy(kernels: Sequence[Kernel]) -> dict[str, Figure]:
    """Return the energy of computing, and of moving every kernel's tensors through DRAM, in mJ a sample."""
    computing = sum(one.macs * MULTIPLY_ADD_PJ[one.width] + one.operations * ADD_PJ[one.width] for one in kernels)
    moving = sum(one.bytes for one in kernels) * DRAM_BYTE_PJ
    return {
        "energy_compute_estimated_mj": Figure("mJ", computing / 1e9, "predicted", CONVENTION),
        "energy_dram_estimated_mj": Figure("mJ", moving / 1e9, "predicted", f"{CONVENTION}, bytes x 160 pJ"),
    }
