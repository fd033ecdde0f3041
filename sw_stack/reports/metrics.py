"""What the figures of simulations mean, with units: one place for ``elmoe3d list metrics`` and the docs."""

METRICS: dict[str, tuple[str, str]] = {
    "tokens/s": ("1/s", "committed tokens of all sequences together over simulated time"),
    "ms / output token": ("ms", "time between two tokens of one sequence: batch / (tokens/s)"),
    "roofline ms": (
        "ms",
        "the same with every memory and all arithmetic at their peaks, all overlapped: a lower bound",
    ),
    "mJ / token": ("mJ", "action counts x energy table + static power x time, per committed token; low to high band"),
    "tokens/J": ("1/J", "the inverse, static energy included"),
    "accepted": ("%", "drafted tokens on a path that were accepted, of those tried"),
    "tokens / round": ("tokens", "committed per sequence and round, the bonus token included (accept length)"),
    "MB / token": ("MB", "1e6 bytes read from each memory per committed token"),
    "critical path": ("%", "share of the time that a resource alone decided; all shares sum to 100"),
    "utilisation": ("%", "share of the time in which a resource is in use; HB, array, vector unit: mean over PEs"),
    "hits": ("%", "experts touched by a pass that decides tokens whose MSB slice is in HB"),
    "experts / layer": ("experts", "distinct experts per MoE layer of such a pass; uniform routing: N(1-(1-k/N)^t)"),
    "target efficiency": ("1", "T(B,1) / T(B,g): a plain pass over one that verifies g tokens per sequence"),
    "speedup": ("1", "tokens/s over those of the reference machine or of the best other machine"),
}
