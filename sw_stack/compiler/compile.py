"""The compiler: from a model, a machine and a pass to the dispatch stream, as the list of its passes.

    graph           operations of every layer                                        } once for a model
    placement       what lies in HB, what in LPDDR                                   } on a machine
    emission        records: one per projection, expert half, HOST operation         )
    tiling          their units of work, K blocks, token blocks                      ) for every pass
    mapping         output-parallel or split, per record, by predicted time          )
    PE programs     kernels, descriptors, PE dispatch words: `pe_executor`, for what has values

The stream is consumed by the whole-model engine (time) and by `functional_runtime` (PE programs, hence values at every
level): both read nothing but its records.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hw.errors import UserError, nearest
from sw_stack.compiler.dispatch import Dispatch
from sw_stack.compiler.emit import Emitter
from sw_stack.compiler.graph import ModelGraph, graph
from sw_stack.compiler.mapping import PER_PROJECTION, choose_mapping
from sw_stack.compiler.placement import Placement, place
from sw_stack.compiler.tiling import tile
from sw_stack.elastic.hb_share import HbShare
from sw_stack.machines.engine.workload import Pass
from sw_stack.machines.machine import MAPPINGS, Machine
from sw_stack.models.architectures import ModelConfig


@dataclass(frozen=True, eq=False)
class Compiled:
    """What one pass was compiled to.

    graph      operations of the model
    placement  tiers of everything stored
    dispatch   the stream: every record with its tiles, K blocks and mapping
    """

    graph: ModelGraph
    placement: Placement
    dispatch: Dispatch

    @property
    def tiling(self) -> np.ndarray:
        """Of every record: units of work, first PE, groups of a K block, token blocks of a pass over the weights."""
        return self.dispatch.records[["units", "first_pe", "k_block", "token_blocks"]]

    @property
    def mapping(self) -> np.ndarray:
        """Name of the parallel mapping of every record."""
        return np.array(MAPPINGS)[self.dispatch.records["mapping"]]


class Compiler:
    """Compiles passes of ``config`` for ``machine`` (a processor).

    Parameters
    ----------
    share : of HB between dense weights, KV and experts; None = enough room for all KV
    mapping : parallel mapping of all projections; None = of the machine's legal ones the faster for each projection
    """

    def __init__(
        self, machine: Machine, config: ModelConfig, share: HbShare | None = None, mapping: str | None = None
    ) -> None:
        known = [*machine.mappings, PER_PROJECTION]
        if mapping is not None and mapping not in known:
            raise UserError(f"unknown mapping {mapping!r} of machine {machine.name}; {nearest(mapping, known)}")
        self.machine = machine
        self.mapping = mapping or (PER_PROJECTION if len(machine.mappings) > 1 else machine.mappings[0])
        self.graph = graph(config)
        self.placement = place(machine, share)
        self.emitter = Emitter(self.graph, self.placement)

    def compile(self, one: Pass) -> Compiled:
        """The passes of the compiler, in order."""
        dispatch = self.emitter.emit(one)
        tile(dispatch.records, self.machine.chip)
        choose_mapping(dispatch.records, self.machine, self.mapping)
        return Compiled(self.graph, self.placement, dispatch)

    def remapped(self, dispatch: Dispatch, mapping: str) -> Dispatch:
        """The same stream under another mapping."""
        records = dispatch.records.copy()
        choose_mapping(records, self.machine, mapping)
        return Dispatch(records, dispatch.names)
