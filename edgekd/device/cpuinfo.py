"""What `/proc/cpuinfo` says about the processor, and whether the processor is a real one."""

from pathlib import Path

INT8_INSTRUCTIONS = {  # best first: ONNX Runtime and OpenVINO multiply int8 with these
    "x86": ("amx_int8", "avx512_vnni", "avx_vnni"),
    "arm": ("i8mm", "asimddp"),
}
_SHOWN = (
    *("sse4_1", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8"),
    *("neon", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)
_ARM_CORES = {
    "0xd03": "Cortex-A53",
    "0xd05": "Cortex-A55",
    "0xd08": "Cortex-A72",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd42": "Cortex-A78AE",
    "0xd4f": "Neoverse-V2",
    "0xd83": "Neoverse-V3AE",
}
_ARM_LTD = "0x41"


def read_cpuinfo(root: Path) -> dict[str, str]:
    """Return the fields of the first processor, or nothing where there is no `/proc/cpuinfo`."""
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    return fields


def cpu_model(cpuinfo: dict[str, str]) -> str | None:
    """Return the processor's name, such as `Cortex-A76`."""
    if cpuinfo.get("model name"):
        return cpuinfo["model name"]
    if cpuinfo.get("CPU implementer") == _ARM_LTD:
        part = cpuinfo.get("CPU part", "")
        return _ARM_CORES.get(part, f"Arm part {part}")
    return None


def instruction_sets(cpuinfo: dict[str, str]) -> list[str]:
    """Return the vector and matrix instruction sets, in a fixed order."""
    flags = _flags(cpuinfo)
    return [name for name in _SHOWN if name in flags]


def int8_instructions(cpuinfo: dict[str, str]) -> str | None:
    """Return the best instruction set that multiplies int8 without saturating, or None."""
    flags = _flags(cpuinfo)
    return next((name for names in INT8_INSTRUCTIONS.values() for name in names if name in flags), None)


def is_emulated(cpuinfo: dict[str, str], kernel_architecture: str | None, architecture: str) -> bool:
    """Return whether this process runs on another architecture than the machine's, as under qemu-user.

    It is found by the processor or the kernel that shows through; a whole emulated machine is not found.
    """
    signs = {family(kernel_architecture or "")}
    if "flags" in cpuinfo:
        signs.add("x86")
    if "CPU implementer" in cpuinfo:
        signs.add("arm")
    return bool(signs - {family(architecture), ""})


def family(architecture: str) -> str:
    """Return `x86`, `arm` or, for another architecture, an empty text."""
    if architecture.startswith(("arm", "aarch64")):
        return "arm"
    return "x86" if architecture in ("x86_64", "AMD64", "i386", "i486", "i586", "i686") else ""


def _flags(cpuinfo: dict[str, str]) -> set[str]:
    return set((cpuinfo.get("flags") or cpuinfo.get("Features") or "").split())
