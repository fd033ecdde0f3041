"""Sizes of the die's links."""

from dataclasses import dataclass

from hw.params.checks import require
from hw.params.chips import ChipParams


@dataclass(frozen=True, kw_only=True)
class LinkParams:
    """One shared link: words of ``word_bits`` from any source to any set of targets, in whole chunks.

    sources, targets  ports
    word_bits         width (128 bytes at full size: 128 GB/s at a word a cycle, the published stream link)
    credit_words      words of each target's buffer, so the longest chunk (chosen)
    cycles_per_word   pace: 1 for the stream link, 4 for the aggregation link (published 32 GB/s)
    stages            registers between the link and a target's buffer (chosen: the way over the die)
    """

    sources: int
    targets: int
    word_bits: int
    credit_words: int = 16
    cycles_per_word: int = 1
    stages: int = 2

    def __post_init__(self) -> None:
        for name, least, most in (
            ("sources", 1, 64),
            ("targets", 1, 64),
            ("word_bits", 32, 4096),
            ("credit_words", 1, 1024),
            ("cycles_per_word", 1, 64),
            ("stages", 0, 16),
        ):
            value = getattr(self, name)
            require(
                isinstance(value, int) and least <= value <= most,
                f"link {name}",
                f"an integer from {least} to {most}",
                value,
            )
        require(self.word_bits % 32 == 0, "link word_bits", "a multiple of 32", self.word_bits)


def die_links(chip: ChipParams) -> tuple[LinkParams, LinkParams]:
    """Stream link and aggregation link of a die: 128 and 32 bytes a cycle at full size, as published."""
    word_bits = 32 * chip.array.columns
    return (
        LinkParams(sources=2, targets=chip.pes, word_bits=word_bits, cycles_per_word=1),
        LinkParams(sources=chip.pes + 1, targets=chip.pes + 1, word_bits=word_bits, cycles_per_word=4),
    )
