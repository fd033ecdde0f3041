"""AXI4's ports and codes, for managers and subordinates alike.

Port names are flat (``s_axi_awaddr``), so that vendor packagers infer the interfaces by themselves.
"""

from enum import IntEnum

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.params import HbParams

BOUNDARY_BYTES = 4096
"""No AXI burst crosses such a boundary."""
MOST_BEATS = 256
"""Of an AXI4 burst."""


class Response(IntEnum):
    """AXI's answers; EXOKAY is never given, DECERR is the interconnect's."""

    OKAY = 0
    EXOKAY = 1
    SLVERR = 2
    DECERR = 3


NORMAL_BUFFERABLE = 0b0011
"""Of awcache and arcache: memory, not to be cached on the way; what vendors' memory controllers advise."""
DATA_NONSECURE = 0b010
"""Of awprot and arprot."""


class Burst(IntEnum):
    """AXI's kinds of burst."""

    FIXED = 0
    INCR = 1
    WRAP = 2


def axi_members(prefix: str, data_bits: int, address_bits: int, id_bits: int, *, manager: bool) -> dict:
    """An AXI4 port, named ``<prefix>_<signal>``; directions as the manager or the subordinate sees them."""
    forward, backward = (Out, In) if manager else (In, Out)
    members = {}
    for channel in ("aw", "ar"):
        members |= {
            f"{channel}id": forward(id_bits),
            f"{channel}addr": forward(address_bits),
            f"{channel}len": forward(8),
            f"{channel}size": forward(3),
            f"{channel}burst": forward(2),
            f"{channel}cache": forward(4),
            f"{channel}prot": forward(3),
            f"{channel}valid": forward(1),
            f"{channel}ready": backward(1),
        }
    members |= {
        "wdata": forward(data_bits),
        "wstrb": forward(data_bits // 8),
        "wlast": forward(1),
        "wvalid": forward(1),
        "wready": backward(1),
        "bid": backward(id_bits),
        "bresp": backward(2),
        "bvalid": backward(1),
        "bready": forward(1),
        "rid": backward(id_bits),
        "rdata": backward(data_bits),
        "rresp": backward(2),
        "rlast": backward(1),
        "rvalid": backward(1),
        "rready": forward(1),
    }
    return {f"{prefix}_{name}": member for name, member in members.items()}


def pass_through(
    m: Module, outer: wiring.Component, inner: wiring.Component, members: dict, prefix: tuple[str, str] = ("", "")
) -> None:
    """``members`` of ``inner`` as those of ``outer``; ``prefix`` is the inner one and what it is called outside."""
    for name, member in members.items():
        outside = getattr(outer, prefix[1] + name.removeprefix(prefix[0]))
        inside = getattr(inner, name)
        m.d.comb += outside.eq(inside) if member.flow is Out else inside.eq(outside)


def most_beats(params: HbParams) -> int:
    """Beats of the longest legal burst of whole columns."""
    return min(MOST_BEATS, BOUNDARY_BYTES // params.column_bytes)
