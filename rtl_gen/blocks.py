"""The blocks that can be exported, simulated and synthesised by name (``--block``)."""

from collections.abc import Callable
from dataclasses import dataclass

from amaranth.lib import wiring

from hw.params import ChipParams


@dataclass(frozen=True)
class Block:
    """A named top level: ``build(chip)`` makes the Amaranth component for a chip's sizes."""

    summary: str
    build: Callable[[ChipParams], wiring.Component]


BLOCKS: dict[str, Block] = {}
