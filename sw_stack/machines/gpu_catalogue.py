"""Numbers of the GPUs. Peaks are dense, from data sheets; efficiencies are measured or marked assumed."""

from __future__ import annotations

from sw_stack.machines.machine import Gpu
from sw_stack.machines.sourced import Sourced

_SHEET = "NVIDIA data sheet"
_CONTEXT = "bare idle and 26 to 66 W of a loaded context (arXiv 2605.23918)"
_COPY_ASSUMED = Sourced(0.9, "of peak", "assumed", "as a copy on H100 and H200 was measured to reach", 0.8, 0.95)


def _gpu(
    memory_gb: float,
    gb_per_s: Sourced,
    tops: Sourced,
    board_w: Sourced,
    idle_w: Sourced,
    memory_efficiency: Sourced = _COPY_ASSUMED,
) -> Gpu:
    return Gpu(
        memory_gb=Sourced(memory_gb, "GB", "datasheet", _SHEET),
        reserved_gb=Sourced(2, "GB", "assumed", "context, workspace and activations", 1, 6),
        gb_per_s=gb_per_s,
        memory_efficiency=memory_efficiency,
        int8_tops=tops,
        compute_efficiency=Sourced(0.6, "of peak", "assumed", "grouped GEMM of many tokens", 0.4, 0.8),
        tile_tokens=Sourced(16, "tokens", "assumed", "narrowest useful tensor-core tile", 8, 64),
        kernel_us=Sourced(2, "us", "assumed", "launch and tail of a kernel in a recorded graph", 1, 5),
        kernels_per_layer=Sourced(10, "kernels", "assumed", "norms, attention and grouped GEMMs fused", 6, 20),
        board_w=board_w,
        idle_w=idle_w,
        busy_share=Sourced(0.7, "of board power", "assumed", "decoding is bound by memory, not by power", 0.5, 1.0),
    )


def _sheet(value: float, unit: str) -> Sourced:
    return Sourced(value, unit, "datasheet", _SHEET)


def _idle(bare_w: float, context: tuple[float, float, float] = (26, 46, 66)) -> Sourced:
    low, middle, high = (bare_w + extra for extra in context)
    return Sourced(middle, "W", "assumed", f"{bare_w:g} W {_CONTEXT}", low, high)


_MODULE = (0, 2, 6)
"""Watts of a loaded context on a module of tens of watts: nothing published, assumed small."""

GPUS: dict[str, tuple[str, Gpu]] = {
    "h100": (
        "H100 SXM 80 GB",
        _gpu(
            80,
            _sheet(3350, "GB/s"),
            _sheet(1979, "TOPS"),
            _sheet(700, "W"),
            _idle(70),
            Sourced(3.0 / 3.35, "of peak", "measured", "copy of 3.0 TB/s on 3.35"),
        ),
    ),
    "h200": (
        "H200 SXM 141 GB",
        _gpu(
            141,
            _sheet(4800, "GB/s"),
            _sheet(1979, "TOPS"),
            _sheet(700, "W"),
            _idle(75),
            Sourced(4.3 / 4.8, "of peak", "measured", "copy of 4.3 TB/s on 4.8"),
        ),
    ),
    "rtx4090": (
        "GeForce RTX 4090 24 GB",
        _gpu(24, _sheet(1008, "GB/s"), _sheet(661, "TOPS"), _sheet(450, "W"), _idle(20)),
    ),
    "rtx5090": (
        "GeForce RTX 5090 32 GB",
        _gpu(
            32,
            _sheet(1792, "GB/s"),
            Sourced(838, "TOPS", "derived", "from the sheet's sparse FP4 figure"),
            _sheet(575, "W"),
            _idle(25),
        ),
    ),
    "gb10": (
        "DGX Spark, GB10 128 GB",
        _gpu(
            128,
            _sheet(273, "GB/s"),
            Sourced(250, "TOPS", "assumed", "quarter of the sheet's sparse FP4 figure"),
            _sheet(140, "W"),
            _idle(15, _MODULE),
        ),
    ),
    "orin": (
        "Jetson AGX Orin 64 GB",
        _gpu(
            64,
            _sheet(204.8, "GB/s"),
            Sourced(137, "TOPS", "derived", "at most: half of the sheet's sparse figure"),
            Sourced(60, "W", "datasheet", _SHEET, 15, 60),
            _idle(8, _MODULE),
        ),
    ),
    "thor": (
        "Jetson Thor 128 GB",
        _gpu(
            128,
            Sourced(273, "GB/s", "assumed", "no data sheet at hand"),
            Sourced(517, "TOPS", "derived", "FP8 from the sheet's sparse FP4 figure"),
            Sourced(130, "W", "datasheet", _SHEET, 40, 130),
            _idle(12, _MODULE),
        ),
    ),
}
"""Name -> what it is, roofline."""
