"""Parallel mapping of every projection: of the machine's legal ones the faster, by predicted time.

Mappings differ where slices come from LPDDR: to the PE that holds the output (output-parallel), or to every PE for its
own share of the tokens (split). Records of equal shape, tokens and tiers get the same answer.
"""

from __future__ import annotations

import numpy as np

from sw_stack.compiler.dispatch import Dispatch, Tier, is_product
from sw_stack.machines.engine.lowering import lower, predicted_ns
from sw_stack.machines.machine import MAPPINGS, Machine

PER_PROJECTION = "per projection"
"""As a policy: the faster of the legal mappings for each record."""


def choose_mapping(records: np.ndarray, machine: Machine, policy: str) -> None:
    """Fill ``mapping`` of all products: ``policy`` is one mapping for all, or `PER_PROJECTION`. They are tiled."""
    product = is_product(records)
    if policy != PER_PROJECTION:
        records["mapping"] = np.where(product, MAPPINGS.index(policy), 0)
        return
    first, *others = (MAPPINGS.index(name) for name in machine.mappings)
    records["mapping"] = np.where(product, first, 0)
    differ = np.flatnonzero(product & ((records["msb_tier"] == Tier.LPDDR) | (records["lsb_tier"] == Tier.LPDDR)))
    if not others or not len(differ):
        return
    kinds, kind = _kinds(records, differ)
    chosen, least = kinds["mapping"].copy(), _predicted(kinds, machine)
    for mapping in others:
        kinds["mapping"] = mapping
        ns = _predicted(kinds, machine)
        chosen[ns < least] = mapping  # ties: the first legal mapping
        least = np.minimum(ns, least)
    records["mapping"][differ] = chosen[kind]


def _predicted(records: np.ndarray, machine: Machine) -> np.ndarray:
    return predicted_ns(lower(Dispatch(records, ()), machine), machine)


def _kinds(records: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One record of each kind among ``which``, and the kind of each of these; what decides the time makes the kind."""

    def column(name: str) -> np.ndarray:
        return records[name][which].astype(np.int64)

    key = (column("inputs") // 32 << 20 | column("outputs")) << 29 | column("tokens") << 7
    key |= column("precision") << 5 | column("activated") << 4 | column("msb_tier") << 2 | column("lsb_tier")
    _, first, kind = np.unique(key, return_index=True, return_inverse=True)
    return records[which[first]], kind
