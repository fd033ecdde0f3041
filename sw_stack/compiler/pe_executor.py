"""The PEs of a chip at the functional level: kernels are added to a program for each PE, which runs at once.

Each PE keeps its HB bank from program to program. All programs since `begin` are also kept joined, one for each PE: a
whole decode step as one program, which any level can run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from cycle_model.numerics import QuantizedActivations
from cycle_model.pe.functional import functional
from hw.isa.program import PeProgram
from hw.params import ChipParams
from sw_stack.compiler.builder import Bank, ProgramBuilder, Weights
from sw_stack.compiler.expert_program import (
    Expert,
    ExpertWork,
    Share,
    add_experts,
    add_network,
    read_network,
    read_rows,
)
from sw_stack.compiler.projection_program import add_projection, read_projection


@dataclass
class PeExecutor:
    """``pes`` PEs of ``chip``, which share the outputs of every product.

    Attributes
    ----------
    programs, commands : run so far
    """

    chip: ChipParams
    pes: int
    programs: int = 0
    commands: int = 0
    _banks: list[Bank] = field(init=False)
    _joined: list[ProgramBuilder] = field(init=False)

    def __post_init__(self) -> None:
        self._banks = [Bank() for _ in range(self.pes)]
        self.begin()

    def begin(self) -> None:
        """Forget what has run; the banks stay."""
        self._joined = [ProgramBuilder(self.chip, bank) for bank in self._banks]

    def joined(self) -> list[PeProgram]:
        """All that has run since `begin`: one program for each PE that had work."""
        return [build.program() for build in self._joined if len(build.records) > 1]

    def project(
        self,
        weights: Weights,
        activations: QuantizedActivations,
        *,
        mode: str,
        tier: str,
        blocks: int,
        bias: np.ndarray | None,
    ) -> np.ndarray:
        """Rows of a projection, float32 [tokens, outputs]; ``blocks``: token blocks per pass over the weights."""
        tokens, outputs = len(activations.q), len(weights.scales if hasattr(weights, "scales") else weights.exponents)
        blocks = min(blocks, -(-tokens // self.chip.array.rows), self.chip.pe.al_groups * 32 // activations.q.shape[1])
        out = np.empty((tokens, outputs), np.float32)
        for share in self._shares(outputs // self.chip.array.columns):
            part = share.of(outputs, self.chip.array.columns)

            def add(build: ProgramBuilder, part: slice = part) -> None:
                add_projection(build, weights, activations, mode=mode, tier=tier, blocks=blocks, bias=bias, part=part)

            words = self._run(share.index, add)
            out[:, part] = read_projection(self.chip, words, tokens, part.stop - part.start, blocks)
        return out

    def network(
        self, network: Expert, activations: QuantizedActivations, *, mode: str, tier: str, layer: int
    ) -> np.ndarray:
        """Rows of a dense or shared network, float32 [tokens, hidden]."""
        tokens, hidden = activations.q.shape
        out = np.empty((tokens, hidden), np.float32)
        for share in self._shares(self._most(network)):

            def add(build: ProgramBuilder, share: Share = share) -> None:
                add_network(build, network, activations, mode=mode, tier=tier, share=share, layer=layer)

            part = share.of(hidden, self.chip.array.columns)
            out[:, part] = read_network(self.chip, self._run(share.index, add), network, tokens, share)
        return out

    def experts(
        self,
        work: list[ExpertWork],
        activations: QuantizedActivations,
        *,
        mode: str,
        clamp: tuple[float, float] | None,
        layer: int,
    ) -> np.ndarray:
        """Combined rows of a layer's experts, float32 [tokens, hidden]."""
        tokens, hidden = activations.q.shape
        out = np.empty((tokens, hidden), np.float32)
        for share in self._shares(self._most(work[0].expert)):

            def add(build: ProgramBuilder, share: Share = share) -> None:
                add_experts(build, work, activations, None, mode=mode, clamp=clamp, share=share, layer=layer)

            part = share.of(hidden, self.chip.array.columns)
            out[:, part] = read_rows(self.chip, self._run(share.index, add), tokens, part.stop - part.start)
        return out

    def _most(self, network: Expert) -> int:
        """PEs that can share a network's outputs."""
        inner, outer = (len(w.scales if hasattr(w, "scales") else w.exponents) for w in (network.gate, network.down))
        return min(inner // 32, outer // self.chip.array.columns)

    def _shares(self, most: int) -> list[Share]:
        count = min(self.pes, most)
        return [Share(index, count) for index in range(count)]

    def _run(self, pe: int, add: Callable[[ProgramBuilder], None]) -> list[int]:
        build = ProgramBuilder(self.chip, self._banks[pe])
        add(build)
        result = functional(build.program())
        if result.error is not None:
            raise RuntimeError(f"compiled program stopped: {result.error}")
        self.programs += 1
        self.commands += len(result.instruction)
        self._joined[pe].join(build)
        return result.state.out
