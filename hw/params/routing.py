"""Sizes of expert selection and hotness counting."""

from dataclasses import dataclass

from hw.params.checks import require


@dataclass(frozen=True, kw_only=True)
class RoutingParams:
    """Expert selection and hotness counting.

    experts       routed experts per layer, at most
    top_k         experts per token, at most
    layers        MoE layers with counters of their own, at most
    counter_bits  width of a saturating hotness counter (chosen: a count per drafted token and layer stays below
                  2^16 for 64 sequences and 1,000 drafted tokens each)
    """

    experts: int
    top_k: int
    layers: int
    counter_bits: int = 16

    def __post_init__(self) -> None:
        for name, last in (("experts", 1024), ("layers", 256), ("counter_bits", 32)):
            value = getattr(self, name)
            require(
                isinstance(value, int) and 1 <= value <= last, f"routing {name}", f"an integer from 1 to {last}", value
            )
        require(
            isinstance(self.top_k, int) and 1 <= self.top_k <= min(self.experts, 64),
            "routing top_k",
            f"an integer from 1 to {min(self.experts, 64)}",
            self.top_k,
        )
