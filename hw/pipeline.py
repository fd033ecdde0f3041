"""Pipeline cuts: the same expressions with or without a register, chosen by a parameter."""

from types import SimpleNamespace

from amaranth.hdl import Module, Signal, Value


def cut(m: Module, advance: Value, registered: bool, **values: Value) -> SimpleNamespace:
    """Signals carrying ``values``, one register later where ``registered``, at once otherwise.

    The registers load while ``advance`` is high and are not reset: whoever owns the valid bit decides what
    counts.
    """
    out = SimpleNamespace()
    for name, value in values.items():
        value = Value.cast(value)
        signal = Signal(value.shape(), name=f"{name}_q" if registered else name, reset_less=True)
        if registered:
            with m.If(advance):
                m.d.sync += signal.eq(value)
        else:
            m.d.comb += signal.eq(value)
        setattr(out, name, signal)
    return out


def spread(stages: int, steps: int) -> frozenset[int]:
    """Which of ``steps`` consecutive steps (1-based) end in a register when ``stages`` registers are placed.

    The last step always does; the others are spaced evenly.
    """
    return frozenset(-(-steps * k // stages) for k in range(1, stages + 1))


def delay(m: Module, advance: Value, cycles: int, **values: Value) -> SimpleNamespace:
    """Signals carrying ``values``, ``cycles`` registers later; at once where it is 0."""
    out = SimpleNamespace(**values)
    for _ in range(cycles):
        out = cut(m, advance, True, **vars(out))
    return out
