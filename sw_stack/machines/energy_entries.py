"""Energy of one action, by name: the numbers behind `energy`. Low and high are the band that reports show.

Sources: *synthesis* gate-level simulation of a stand-in 32-lane unit on ASAP7 (RVT, TT, 0.7 V), docs/energy.md;
*Jouppi* et al., ISCA 2021, table 2, 7 nm, second-hand; *FGDRAM* O'Connor et al., MICRO 2017; *CACTI* 22 nm scaled.
"""

from __future__ import annotations

from sw_stack.machines.sourced import Sourced

COMPONENTS = (
    "HB",
    "LPDDR",
    "SRAM",
    "slice MACs",
    "FP32 units",
    "vector",
    "links",
    "host",
    "near memory",
)
"""Dynamic components, in the order of reports; static energy stands beside them."""

_SYNTHESIS = "0.103 to 0.178 pJ by synthesis without wires, 0.05 to 0.27 with mapping, wires and data"
_JOUPPI = "Jouppi et al., ISCA 2021, table 2"
_PAPER = "ELMoE-3D, arXiv 2604.14626, public summary"
_WIRE = "a few mm of 7 nm wire at some 0.1 pJ/bit/mm"

ENTRIES: dict[str, tuple[str, Sourced]] = {
    "hb_read": (
        "HB",
        Sourced(0.43, "pJ/bit", "second-hand", f"{_PAPER}; 0.66 Tasa, 0.88 SeDRAM; activation included", 0.43, 0.88),
    ),
    "hb_write": ("HB", Sourced(0.43, "pJ/bit", "assumed", "as a read", 0.43, 0.88)),
    "hb_refresh": (
        "HB",
        Sourced(
            29_000, "pJ", "assumed", "half a 64 KB row per command at HBM's 0.909 nJ per KB activated", 5000, 60_000
        ),
    ),
    "lpddr_read": (
        "LPDDR",
        Sourced(3.88, "pJ/bit", "second-hand", f"{_PAPER}; 7.0 ATLAS, 10-20 mobile systems; with activation", 3.88, 12),
    ),
    "lpddr_write": ("LPDDR", Sourced(3.88, "pJ/bit", "assumed", "as a read", 3.88, 12)),
    "lpddr_refresh_all_bank": (
        "LPDDR",
        Sourced(116_000, "pJ", "assumed", "16 banks x 8 rows of 2 KB at 0.909 nJ per activation", 40_000, 240_000),
    ),
    "lpddr_refresh_per_bank": (
        "LPDDR",
        Sourced(14_500, "pJ", "assumed", "2 banks x 8 rows of 2 KB at 0.909 nJ per activation", 5000, 30_000),
    ),
    "slice_mac_full": ("slice MACs", Sourced(0.12, "pJ", "derived", _SYNTHESIS, 0.05, 0.27)),
    "slice_mac_draft": (
        "slice MACs",
        Sourced(0.138, "pJ", "derived", "15 % above full mode (12 to 18 %): the fixed one adds a product", 0.056, 0.32),
    ),
    "slice_mac_mxfp4": ("slice MACs", Sourced(0.12, "pJ", "derived", "as full mode: the same operand", 0.05, 0.27)),
    "scale_product": ("FP32 units", Sourced(1.31, "pJ", "second-hand", f"{_JOUPPI}: FP32 multiply", 0.5, 2.0)),
    "chain_add": ("FP32 units", Sourced(0.6, "pJ", "assumed", "half an FP32 multiply", 0.3, 1.31)),
    "sram_read": (
        "SRAM",
        Sourced(0.26, "pJ/B", "derived", "CACTI 2.1 pJ per 64 bit; 5.8 pJ per 512 bit; Jouppi 8.5 per 64", 0.09, 1.06),
    ),
    "sram_write": ("SRAM", Sourced(0.6, "pJ/B", "derived", "read x 13.4 / 5.8, the 512-bit port's ratio", 0.21, 2.45)),
    "vector_operation": ("vector", Sourced(1.0, "pJ", "derived", "mean of FP32 multiply and add", 0.3, 2.0)),
    "stream_link": ("links", Sourced(0.3, "pJ/bit", "assumed", f"{_WIRE}, per PE that takes it", 0.1, 0.8)),
    "aggregation_link": ("links", Sourced(0.3, "pJ/bit", "assumed", _WIRE, 0.1, 0.8)),
    "host_attention_mac": ("host", Sourced(1.9, "pJ", "derived", "FP32 multiply and add", 0.2, 3.5)),
    "host_element": ("host", Sourced(10, "pJ", "assumed", "ten FP32 operations per element", 3, 30)),
    "host_command": ("host", Sourced(1000, "pJ", "assumed", "a hand-over through the host port", 100, 10_000)),
}
"""Entry -> component and number."""

OF_THE_MACHINE: dict[str, str] = {"near_memory_read": "near memory", "near_memory_mac": "near memory"}
"""Entries whose number a machine brings with its units in the memory -> component."""

ACTIONS: dict[str, str] = {
    "hb_read_bytes": "hb_read",
    "hb_write_bytes": "hb_write",
    "hb_refreshes": "hb_refresh",
    "lpddr_read_bytes": "lpddr_read",
    "lpddr_write_bytes": "lpddr_write",
    "lpddr_refreshes_all_bank": "lpddr_refresh_all_bank",
    "lpddr_refreshes_per_bank": "lpddr_refresh_per_bank",
    "array_macs_full": "slice_mac_full",
    "array_macs_draft": "slice_mac_draft",
    "array_macs_mxfp4": "slice_mac_mxfp4",
    "array_scale_products": "scale_product",
    "array_chain_adds": "chain_add",
    "sram_read_bytes": "sram_read",
    "sram_write_bytes": "sram_write",
    "vector_operations": "vector_operation",
    "stream_link_delivered_bytes": "stream_link",
    "aggregation_link_bytes": "aggregation_link",
    "host_attention_macs": "host_attention_mac",
    "host_elements": "host_element",
    "host_commands": "host_command",
    "near_memory_read_bytes": "near_memory_read",
    "near_memory_macs": "near_memory_mac",
}
"""Field of `Counts` -> entry. A field ``..._bytes`` priced per bit costs eight times the entry."""

INCLUDED: dict[str, str] = {
    "hb_activates": "in the energy per bit",
    "hb_precharges": "in the energy per bit",
    "hb_reads": "counted by its bytes",
    "hb_writes": "counted by its bytes",
    "hb_row_hits": "an outcome, not an action",
    "hb_row_misses": "an outcome, not an action",
    "hb_row_conflicts": "an outcome, not an action",
    "hb_row_reopens": "in the energy per bit",
    "hb_transfers": "an outcome, not an action",
    "hb_refused": "moves nothing",
    "hb_busy_cycles": "time; in the static energy",
    "hb_stall_clocks": "time; in the static energy",
    "lpddr_activates": "in the energy per bit",
    "lpddr_precharges": "in the energy per bit",
    "lpddr_precharges_all": "in the energy per bit",
    "lpddr_reads": "counted by its bytes",
    "lpddr_writes": "counted by its bytes",
    "lpddr_row_hits": "an outcome, not an action",
    "lpddr_row_misses": "an outcome, not an action",
    "lpddr_row_conflicts": "an outcome, not an action",
    "lpddr_forwarded_reads": "served by the controller's queue; no memory is read",
    "array_busy_cycles": "time; in the static energy",
    "vector_busy_cycles": "time; in the static energy",
    "stream_link_bytes": "counted where they are delivered",
    "stream_link_busy_cycles": "time; in the static energy",
    "aggregation_link_busy_cycles": "time; in the static energy",
}
"""Field of `Counts` without a price of its own, and where its energy is. `hb_check_bytes` depends on the ECC mode."""
