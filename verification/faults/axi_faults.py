"""Mistakes in the AXI ports of the machine and of a PE's memory, and the tests that must notice them."""

from verification.faults.fault import Fault, Target

_LITE = "hw/die/host_axi.py"
_HOST = "hw/die/axi_memory_subordinate.py"
_COLUMNS = "hw/die/axi_columns.py"
_CHIP_BANK = "hw/memory/on_chip_bank.py"
_BANK = "hw/memory/axi_bank.py"
_HOSTED = "hw/die/hosted_pe.py"
_TESTS = "verification/blocks/test_axi.py"
_REGISTERS = (f"{_TESTS}::test_axi[axi_registers]",)
_MEMORY = (f"{_TESTS}::test_axi[axi_memory]",)
_MANAGER = (f"{_TESTS}::test_axi[axi_bank]",)
_MACHINE = (f"{_TESTS}::test_banks_of_the_whole_machine",)
_EXPERT = (f"{_TESTS}::test_an_expert_on_a_pe_with_an_axi_memory",)
_STOPPED = (f"{_TESTS}::test_a_run_stopped_in_a_transfer",)

TARGETS = (
    Target("host_axi", _LITE, tests=_REGISTERS, on_demand=True),
    Target("axi_memory_subordinate", _HOST, tests=(*_MEMORY, *_MACHINE), on_demand=True),
    Target("axi_columns", _COLUMNS, tests=_MACHINE, on_demand=True),
    Target("axi_bank", _BANK, tests=(*_MANAGER, *_STOPPED, *_EXPERT), on_demand=True),
    Target("on_chip_bank", _CHIP_BANK, tests=_MACHINE, on_demand=True),
    Target("hosted_pe", _HOSTED, tests=(*_MACHINE, *_STOPPED), on_demand=True),
)

FAULTS = (
    Fault(
        name="axil-write-ignores-strobes",
        file=_LITE,
        before="with m.If(strobe == 0xF):",
        after="with m.If(strobe != 0):",
        reason="A write of one byte changes the whole register.",
    ),
    Fault(
        name="axil-error-is-okay",
        file=_LITE,
        before="self.s_axil_rresp.eq(Mux(bus.error, Response.SLVERR, Response.OKAY))",
        after="self.s_axil_rresp.eq(Response.OKAY)",
        reason="A read outside the map is answered as if it had a value.",
    ),
    Fault(
        name="axi-boundary-off-by-one",
        file=_HOST,
        before="crosses = (first % per_boundary) + beats_1 >= per_boundary",
        after="crosses = (first % per_boundary) + beats_1 > per_boundary",
        reason="A burst whose last beat lies behind a 4 KB boundary is served.",
        tests=_MEMORY,
    ),
    Fault(
        name="axi-partial-strobes-written",
        file=_HOST,
        before="failed.eq(failed | misplaced | ~self.s_axi_wstrb.all())",
        after="failed.eq(failed | misplaced)",
        reason="Bytes without a strobe are overwritten.",
        tests=_MEMORY,
    ),
    Fault(
        name="axi-id-not-returned",
        file=_HOST,
        before="self.s_axi_rid.eq(burst.id)",
        after="self.s_axi_rid.eq(0)",
        reason="A response carries another request's identifier.",
        tests=_MEMORY,
    ),
    Fault(
        name="axi-write-id-not-returned",
        file=_HOST,
        before="self.s_axi_bid.eq(burst.id)",
        after="self.s_axi_bid.eq(self.s_axi_awid)",
        reason="A write's response carries the identifier of the address that is offered now.",
        tests=_MACHINE,
    ),
    Fault(
        name="axi-bank-beyond-the-last",
        file=_HOST,
        before="beyond |= first[self._stride_bits :] >= self._windows.count",
        after="beyond |= first[self._stride_bits :] > self._windows.count",
        reason="Addresses behind the last bank reach a bank.",
        tests=(f"{_TESTS}::test_an_address_behind_the_last_bank_reaches_none",),
    ),
    Fault(
        name="axi-read-waits-for-write-data",
        file=_HOST,
        before='m.next = "free"\n        return m',
        after='with m.If(~self.s_axi_wready):\n                        m.next = "free"\n        return m',
        reason="A transfer's end waits for data of a write that may depend on it.",
        tests=_MACHINE,
    ),
    Fault(
        name="axi-wrong-burst-kind-served",
        file=_HOST,
        before="(burst != Burst.INCR) | ",
        after="(burst == Burst.WRAP) | ",
        reason="A FIXED burst is served as if it went on.",
        tests=_MEMORY,
    ),
    Fault(
        name="axi-columns-wait-for-the-pe",
        file=_COLUMNS,
        before="moved = wanted & (taken | ~owned)",
        after="moved = wanted & taken",
        reason="The host's burst hangs until the PE's run is over.",
        tests=_MACHINE,
    ),
    Fault(
        name="axi-columns-lost-write-is-okay",
        file=_COLUMNS,
        before="with m.If(failed & writing):",
        after="with m.If(0):",
        reason="A write that the bank never saw is answered with OKAY.",
        tests=_MACHINE,
    ),
    Fault(
        name="axi-columns-lost-read-is-okay",
        file=_COLUMNS,
        before="lost.eq(~owned)",
        after="lost.eq(0)",
        reason="Beats that were not read are answered with OKAY.",
        tests=_MACHINE,
    ),
    Fault(
        name="axi-columns-beside-the-window",
        file=_CHIP_BANK,
        before="columns.taken.eq(columns.en & self.host_owns & ~host.en)",
        after="columns.taken.eq(columns.en & self.host_owns)",
        reason="A burst and an access to the window take the memory in the same cycle.",
        tests=_MACHINE,
    ),
    Fault(
        name="axi-bank-crosses-boundary",
        file=_BANK,
        before="shortest = Mux(to_boundary < burst, to_boundary, burst)",
        after="shortest = burst",
        reason="The manager breaks the 4 KB rule.",
        tests=_MANAGER,
    ),
    Fault(
        name="axi-bank-done-before-response",
        file=_BANK,
        before="with m.If(unanswered == 0):",
        after="with m.If(1):",
        reason="A write is done before the memory answered; its error is lost.",
        tests=_MANAGER,
    ),
    Fault(
        name="axi-bank-error-not-marked",
        file=_BANK,
        before="each.read.payload.uncorrectable.eq(self.m_axi_rresp != Response.OKAY)",
        after="each.read.payload.uncorrectable.eq(0)",
        reason="A beat that the memory refused is computed with.",
        tests=_MANAGER,
    ),
    Fault(
        name="axi-bank-forgets-its-base",
        file=_BANK,
        before="place.eq((self.base >> lane_bits) + first)",
        after="place.eq(first)",
        reason="Every PE reads the same pseudo-channel.",
        tests=_MANAGER,
    ),
    Fault(
        name="axi-bank-counts-every-cycle-of-an-address",
        file=_BANK,
        before='(valid["ar"] & ~taken["ar"])',
        after='valid["ar"]',
        reason="An address taken at once is counted as a stall.",
        tests=_EXPERT,
    ),
    Fault(
        name="axi-bank-abandoned-write-with-strobes",
        file=_BANK,
        before="self.m_axi_wstrb.eq((~self.abandon).replicate(params.column_bytes))",
        after="self.m_axi_wstrb.eq(~0)",
        reason="A stopped run overwrites memory with whatever its requester last offered.",
        tests=_STOPPED,
    ),
    Fault(
        name="axi-bank-abandoned-write-waits",
        file=_BANK,
        before="with m.If(room & (offered | self.abandon)):",
        after="with m.If(room & offered):",
        reason="A burst whose words never come is never ended: the memory hangs.",
        tests=_STOPPED,
    ),
    Fault(
        name="axi-run-resets-a-transfer",
        file=_HOSTED,
        before='~run & pe.quiet if chip.memory == "axi" else ~run',
        after="~run",
        reason="The manager forgets a burst that the memory still answers.",
        tests=_STOPPED,
    ),
    Fault(
        name="axi-run-begins-unsettled",
        file=_HOSTED,
        before="run.eq(wanted & settled)",
        after="run.eq(wanted)",
        reason="A run goes on with the state of the one before.",
        tests=_STOPPED,
    ),
)
