"""How a size is refused."""

from hw.errors import UserError


def require(condition: bool, thing: str, rule: str, value: object) -> None:
    """UserError "<thing> must be <rule>, not <value!r>" unless ``condition``."""
    if not condition:
        raise UserError(f"{thing} must be {rule}, not {value!r}")


def is_power_of_two(value: object) -> bool:
    """Whether ``value`` is an integer power of two, 1 included."""
    return isinstance(value, int) and value > 0 and value & (value - 1) == 0
