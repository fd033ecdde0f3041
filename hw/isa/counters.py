"""Performance counters of the PE: names and meaning, the same in RTL, exact and fast model. Standard library only.

A PE behind AXI4 cannot see a DRAM's commands: it has other counters, never one that is 0 for want of knowledge.
"""

from hw.isa.encoding import Unit

_UNIT_COUNTERS = {
    "commands": "commands started",
    "busy_cycles": "cycles from a command's start to its `free`, both included",
    "semaphore_stalls": "cycles with a command at the head and the unit free, but a semaphore at 0",
}

_OF_THE_PE = {
    "sequencer_instructions": "instructions executed",
    "sequencer_queue_stalls": "cycles in which a command stays in execute because its queue is full",
    "sequencer_wait_stalls": "cycles in which WAIT stays in execute",
    **{
        f"{unit.name.lower()}_{name}": text
        for unit in Unit
        if unit is not Unit.SEQUENCER
        for name, text in _UNIT_COUNTERS.items()
    },
    "hb_request_stalls": "cycles in which the HB unit's request waits for the controller",
    "stream_request_stalls": "cycles in which a refill's request waits for the controller",
    "stream_words": "words taken from the stream link",
    "stream_link_stalls": "cycles in which a load, or a refill's controller, would take a word and none is offered",
    "gather_words": "words taken from the aggregation link",
    "gather_link_stalls": "cycles in which a load would take a word and none is offered",
    "store_words": "words taken by the aggregation link",
    "store_link_stalls": "cycles in which a word is offered and not taken",
    "array_groups": "dot groups computed, n x m of every MATMUL",
    "vector_rows": "rows of every vector command, its operand n",
}
_OF_AN_HB_BANK = {
    "hb_activates": "ACTIVATE commands on the bank's pins",
    "hb_reads": "READ commands",
    "hb_writes": "WRITE commands",
    "hb_refreshes": "REFRESH commands",
    "hb_row_conflicts": "activations behind the first of their transfer: its next row, or one closed to refresh",
    "hb_stream_stalls": "DRAM clocks in which only a stream (no word yet, no place) held a column back",
}
_OF_AN_AXI_BANK = {
    "axi_read_bursts": "read addresses taken by the memory",
    "axi_reads": "columns read, a beat of 4 C bytes each",
    "axi_write_bursts": "write addresses taken by the memory",
    "axi_writes": "columns written, a beat of 4 C bytes each",
    "axi_address_stalls": "cycles in which an address is offered and not taken",
    "axi_read_stalls": "cycles of a read in which the memory offers no beat",
    "axi_write_stalls": "cycles in which a beat is offered to the memory and not taken",
    "axi_response_stalls": "cycles in which a write whose beats are all gone waits for responses",
    "axi_stream_stalls": "cycles in which only a stream (no word yet, no place) held a beat back",
    "axi_errors": "responses with an error: beats read, bursts written",
}

COUNTERS: dict[str, str] = _OF_THE_PE | _OF_AN_HB_BANK
"""Counter name -> what it counts, from the cycle of the first dispatch word to the last cycle of the run."""
AXI_COUNTERS: dict[str, str] = _OF_THE_PE | _OF_AN_AXI_BANK
"""The same for a PE whose memory is behind AXI4."""
COUNTER_PLACES: dict[str, int] = {name: place for place, name in enumerate(COUNTERS | AXI_COUNTERS)}
"""Every counter's place in the register map: no place means one thing here and another there."""


def counters_of(memory: str) -> dict[str, str]:
    """Counters of a PE with such a ``memory`` (`hw.params.MEMORIES`)."""
    return COUNTERS if memory == "hb" else AXI_COUNTERS
