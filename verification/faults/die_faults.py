"""Mistakes in links, arbitration, host interface and serial bridge, and the tests that must notice them."""

from verification.faults.fault import Fault, Target

_LINKS = "hw/die/links.py"
_DIE = "hw/die/die.py"
_DIE_MODEL = "cycle_model/die.py"
_LINK_MODELS = "cycle_model/links.py"
_BUS = "hw/die/host_bus.py"
_BRIDGE = "hw/die/uart_bridge.py"
_DIE_TESTS = ("verification/blocks/test_die.py",)
_LINK_TESTS = ("verification/blocks/test_links.py",)
_AXI_TESTS = ("verification/blocks/test_axi.py::test_axi[axi_registers]",)
_UART_TESTS = ("verification/blocks/test_uart.py",)

TARGETS = (
    Target("links", _LINKS, tests=_LINK_TESTS),
    Target("links_model", _LINK_MODELS, tests=_LINK_TESTS),
    Target("die", _DIE, tests=_DIE_TESTS, on_demand=True),
    Target("die_model", _DIE_MODEL, tests=_DIE_TESTS, on_demand=True),
    Target("host_bus", _BUS, tests=(*_UART_TESTS, *_AXI_TESTS), on_demand=True),
    Target("uart_bridge", _BRIDGE, tests=_UART_TESTS),
)

FAULTS = (
    Fault(
        name="link-credit-for-less-than-the-chunk",
        file=_LINKS,
        before="(credits[t] >= head.words)",
        after="(credits[t] != 0)",
        reason="A chunk is granted although a target has no room for all of it; words are lost.",
    ),
    Fault(
        name="link-multicast-asks-one-target",
        file=_LINKS,
        before="for t in range(p.targets)).all()",
        after="for t in range(p.targets)).any()",
        reason="A multicast is granted when any one target has room.",
    ),
    Fault(
        name="link-credit-not-returned-on-same-cycle",
        file=_LINKS,
        before="credits[i] - reserved + leaves)",
        after="credits[i] - reserved + (leaves & ~begin))",
        reason="A credit that returns in the cycle of a grant is lost; the link stops in the end.",
    ),
    Fault(
        name="link-bubble-between-chunks",
        file=_LINKS,
        before="free.eq((left == 0) | (move & (left == 1)))",
        after="free.eq(left == 0)",
        reason="The next grant waits a cycle behind the last word: not the published bandwidth.",
    ),
    Fault(
        name="link-pace-off-by-one",
        file=_LINKS,
        before="pace.eq(p.cycles_per_word - 1)",
        after="pace.eq(p.cycles_per_word - 2 if p.cycles_per_word > 1 else 0)",
        reason="The aggregation link moves a word every three cycles.",
    ),
    Fault(
        name="link-arbiter-stays",
        file=_LINKS,
        before="arbiter.advance.eq(free)",
        after="arbiter.advance.eq(0)",
        reason="The first source always wins: no round robin.",
    ),
    Fault(
        name="link-reduction-starts-alone",
        file=_LINKS,
        before="together = ~head.reduce | ((reducing & head.members) == head.members)",
        after="together = ~head.reduce | (reducing & head.members).any()",
        reason="A maximum is taken before every member asked for it.",
    ),
    Fault(
        name="link-reduction-signed",
        file=_LINKS,
        before="Mux(value > greatest, value, greatest)",
        after="Mux(value[:31] > greatest[:31] if lane else value < greatest, value, greatest)",
        reason="The first value of a reduced word is the least instead of the greatest.",
    ),
    Fault(
        name="link-turn-out-of-order",
        file=_LINKS,
        before="((head.members[:i] & ~served[:i]) == 0)",
        after="1",
        reason="Members of a round send in the order in which they ask: gathered pieces lie in wrong places.",
    ),
    Fault(
        name="link-turn-twice",
        file=_LINKS,
        before="(~served[i] & (",
        after="(1 & (",
        reason="The first member has a second turn before the last one had its first.",
    ),
    Fault(
        name="link-fast-turn-twice",
        file=_LINK_MODELS,
        before="sent[source] + (member < source)",
        after="sent[source] * (member < source) + (member < source)",
        reason="The recurrence lets an early member send again before the round is over.",
    ),
    Fault(
        name="link-wrong-chunk-granted",
        file=_LINKS,
        before="(head.words > p.credit_words) | (head.targets == 0)",
        after="(head.words > p.credit_words)",
        reason="A chunk without targets is not refused: its words vanish.",
    ),
    Fault(
        name="link-fast-forgets-stages",
        file=_LINK_MODELS,
        before="visible = at + p.stages + 1\n",
        after="visible = at + 1\n",
        reason="The recurrence forgets the registers on the way over the die.",
    ),
    Fault(
        name="link-exact-credit-early",
        file=_LINK_MODELS,
        before="room = all(credits[t] >= chunk.words for",
        after="room = all(credits[t] + 1 >= chunk.words for",
        reason="The stepped model grants with a credit too few.",
    ),
    Fault(
        name="die-header-before-its-chunk",
        file=_DIE,
        before="complete = unclaimed >= route.payload.words",
        after="complete = unclaimed + 1 >= route.payload.words",
        reason="A PE's chunk is granted before its last word is there; the link waits for a PE.",
    ),
    Fault(
        name="die-claims-nothing",
        file=_DIE,
        before="stored - Mux(granted, route.payload.words, 0)",
        after="stored",
        reason="Words that were sent count for the next chunk too.",
    ),
    Fault(
        name="die-model-sends-early",
        file=_DIE_MODEL,
        before="route.chunk(part[-1][0] + 1)",
        after="route.chunk(part[-1][0])",
        reason="The model offers a PE's header in the cycle of its last word.",
    ),
    Fault(
        name="bus-reads-outside-the-map",
        file=_BUS,
        before="bus.error.eq(valid_1 & ~hit_1)",
        after="bus.error.eq(0)",
        reason="An address with nothing behind it reads as 0 instead of an error.",
        tests=_UART_TESTS,
    ),
    Fault(
        name="bridge-checksum-ignored",
        file=_BRIDGE,
        before="with m.If(checksum.crc != 0):",
        after="with m.If(0):",
        reason="A damaged request is carried out.",
    ),
    Fault(
        name="bridge-never-forgets",
        file=_BRIDGE,
        before='m.next = "hunt"\n\n        def send',
        after="m.d.sync += quiet.eq(0)\n\n        def send",
        reason="A request that broke off swallows the next one.",
    ),
)
