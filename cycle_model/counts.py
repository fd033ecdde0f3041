"""Action counts: everything that the energy code ever sees of a run.

One dataclass for the whole machine, so that exact and fast models, and the RTL's bench, fill the same fields.
A unit adds its own fields here, its name first, the unit of the count last where it is not plain actions.
"""

from dataclasses import dataclass, fields


@dataclass(kw_only=True)
class Counts:
    """Number of times each action happened.

    Hybrid-bonded DRAM, summed over its banks:

    hb_activates, hb_precharges, hb_refreshes  row commands
    hb_reads, hb_writes         column commands, in-line check columns included
    hb_read_bytes, hb_write_bytes  bytes through the data pins, check columns included, side-band bits not
    hb_check_bytes              bytes of check bits among the above (in-line) or beside them (side-band)
    hb_row_hits                 data columns whose row was open already
    hb_row_misses               activations of a bank that held no row of this transfer
    hb_row_conflicts            activations that had to close another row of the same transfer first
    hb_row_reopens              activations of a row that was closed to refresh in the middle of it
    hb_transfers, hb_refused    transfers done, transfers refused with an error
    hb_busy_cycles              logic cycles in which a transfer holds the bank, acceptance and done pulse not counted
    hb_stall_clocks             DRAM clocks in which only the stream (no buffer place, no data) held a column back

    External LPDDR5, summed over its channels:

    lpddr_activates             ACT-1 and ACT-2 pairs
    lpddr_precharges            single-bank precharges, PRE or with RDA/WRA
    lpddr_precharges_all        PREab commands
    lpddr_reads, lpddr_writes   bursts of 32 bytes
    lpddr_read_bytes, lpddr_write_bytes  bytes through the data pins
    lpddr_refreshes_all_bank, lpddr_refreshes_per_bank  REFab (one rank), REFpb (two banks)
    lpddr_row_hits, lpddr_row_misses, lpddr_row_conflicts  bursts that needed nothing, an ACT, a PRE and an ACT first
    lpddr_forwarded_reads       reads answered from the write queue

    PE array, summed over PEs; rows without a token are gated and count nothing:

    array_macs_full, array_macs_draft, array_macs_mxfp4  slice multiply-adds by operand mode (MSB and LSB are ``full``)
    array_scale_products        group sums multiplied by their scale and rounded
    array_chain_adds            FP32 additions to a chain, and of the two chains at the projection boundary
    array_busy_cycles           cycles in which a PE's array takes a beat

    Memories of the PEs (weights, inputs and outputs, chains), vector unit, links:

    sram_read_bytes, sram_write_bytes
    vector_operations           FP32 operations of the vector unit
    vector_busy_cycles
    stream_link_bytes           injected, a multicast once
    stream_link_delivered_bytes  taken by PEs, a multicast once per PE
    aggregation_link_bytes      activations, row maxima and chains between PEs
    stream_link_busy_cycles, aggregation_link_busy_cycles

    HOST operations:

    host_attention_macs         multiply-adds of attention scores and values
    host_elements               elements of embedding, norms, RoPE, router normalisation, sampling
    host_commands               operations handed over

    Units in the external memory:

    near_memory_read_bytes      read by the units, not through the data pins
    near_memory_macs            INT8 multiply-adds
    """

    hb_activates: int = 0
    hb_precharges: int = 0
    hb_refreshes: int = 0
    hb_reads: int = 0
    hb_writes: int = 0
    hb_read_bytes: int = 0
    hb_write_bytes: int = 0
    hb_check_bytes: int = 0
    hb_row_hits: int = 0
    hb_row_misses: int = 0
    hb_row_conflicts: int = 0
    hb_row_reopens: int = 0
    hb_transfers: int = 0
    hb_refused: int = 0
    hb_busy_cycles: int = 0
    hb_stall_clocks: int = 0
    lpddr_activates: int = 0
    lpddr_precharges: int = 0
    lpddr_precharges_all: int = 0
    lpddr_reads: int = 0
    lpddr_writes: int = 0
    lpddr_read_bytes: int = 0
    lpddr_write_bytes: int = 0
    lpddr_refreshes_all_bank: int = 0
    lpddr_refreshes_per_bank: int = 0
    lpddr_row_hits: int = 0
    lpddr_row_misses: int = 0
    lpddr_row_conflicts: int = 0
    lpddr_forwarded_reads: int = 0
    array_macs_full: int = 0
    array_macs_draft: int = 0
    array_macs_mxfp4: int = 0
    array_scale_products: int = 0
    array_chain_adds: int = 0
    array_busy_cycles: int = 0
    sram_read_bytes: int = 0
    sram_write_bytes: int = 0
    vector_operations: int = 0
    vector_busy_cycles: int = 0
    stream_link_bytes: int = 0
    stream_link_delivered_bytes: int = 0
    aggregation_link_bytes: int = 0
    stream_link_busy_cycles: int = 0
    aggregation_link_busy_cycles: int = 0
    host_attention_macs: int = 0
    host_elements: int = 0
    host_commands: int = 0
    near_memory_read_bytes: int = 0
    near_memory_macs: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        """Counts of both runs together."""
        return Counts(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})
