"""The runtime driven by the dispatch stream: every product a PE program at the functional level, records in order.

A pass is compiled (`sw_stack.compiler.compile`), and its records are walked: HOST and ATTENTION records run the
runtime's own operations, PROJECTION and EXPERT records are lowered to PE programs with the record's precision, tiers
and blocks. What a router chose is known behind its record only; the stream is then compiled on, and what was walked
must not change. The finished stream is the one that the engine times. Logits have the runtime's bits: that is the
contract between the two, and this class exists to test it on whole models.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from cycle_model.functional import rows
from cycle_model.numerics import QuantizedActivations, QuantizedWeights
from hw.errors import UserError
from hw.isa.program import PeProgram
from sw_stack.compiler.builder import Weights
from sw_stack.compiler.compile import Compiler
from sw_stack.compiler.dispatch import Dispatch, Kernel, Precision, Tier
from sw_stack.compiler.expert_program import Expert, ExpertWork
from sw_stack.compiler.pe_executor import PeExecutor
from sw_stack.machines.engine.workload import Pass, PassKind
from sw_stack.machines.machine import Machine
from sw_stack.models import precision as schemes
from sw_stack.models.batch import Batch, LayerRouting
from sw_stack.models.quantized_model import FfnWeights, LayerWeights, QuantizedModel
from sw_stack.models.runtime import Runtime
from sw_stack.models.weights import ProjectionStack

T = TypeVar("T")
MODES = {Precision.FULL: "full", Precision.DRAFT: "draft", Precision.MXFP4: "mxfp4"}
PRECISIONS = (schemes.FULL, schemes.DRAFT, schemes.DRAFT_EXPERTS)
"""Of a forward pass that can be compiled."""


class CompiledRuntime(Runtime):
    """A `Runtime` whose passes are compiled for ``machine`` and executed record by record.

    Parameters
    ----------
    machine : a processor; its mapping is output-parallel, the one that PE programs exist for
    pes : PEs that share the outputs of every product; None = the chip's
    resident : bool [MoE layers, experts, 2], slices that lie in HB, or what gives them; None = the MSB slices of all

    Attributes
    ----------
    dispatch : the stream of the last pass
    executor : the PEs, and what they have run
    """

    def __init__(
        self,
        model: QuantizedModel,
        machine: Machine,
        *,
        pes: int | None = None,
        resident: np.ndarray | Callable[[], np.ndarray] | None = None,
    ) -> None:
        super().__init__(model)
        self.compiler = Compiler(machine, self.config, mapping="output-parallel")
        self.executor = PeExecutor(machine.chip, pes or machine.chip.pes)
        self.dispatch: Dispatch | None = None
        self._resident = resident
        self._matrices: dict[tuple, tuple] = {}

    def step_programs(self) -> list[PeProgram]:
        """The last pass as one program for each PE."""
        return self.executor.joined()

    def placed(self) -> np.ndarray:
        """bool [MoE layers, experts, 2]: slices of experts that lie in HB now."""
        if self._resident is None:
            return np.broadcast_to(np.array([True, False]), (sum(self.config.moe_layers), self.config.experts, 2))
        return self._resident() if callable(self._resident) else self._resident

    def matrix(self, stack: ProjectionStack) -> tuple[Weights, np.ndarray | None]:
        """The matrix of a stack and its bias as the compiler takes them: the last tile filled up with zeros."""
        return self._kept((id(stack),), stack, lambda: whole_tiles(stack, self.executor.chip.array.columns))

    def network(self, weights: FfnWeights, number: int = 0) -> Expert:
        """Network ``number`` of a stack of them."""

        def made() -> Expert:
            up, down = weights.up, weights.down
            up_bias, down_bias = (s.bias[number] if s.bias.shape[1] else None for s in (up, down))
            half = up.outputs // 2
            return Expert(
                up.stored(number, slice(0, 1)),
                up.stored(number, slice(1, 2)),
                down.stored(number),
                None if up_bias is None else up_bias[:half],
                None if up_bias is None else up_bias[half:],
                down_bias,
            )

        return self._kept((id(weights), number), weights, made)

    def _kept(self, key: tuple, owner: object, made: Callable[[], T]) -> T:
        """What ``made`` gives, made once; ``owner`` is kept too, so that no other object gets its identity."""
        if key not in self._matrices:
            self._matrices[key] = (owner, made())
        return self._matrices[key][1]

    def compiled(self, one: Pass) -> Dispatch:
        """The stream of a pass as far as its routing is known."""
        return self.compiler.compile(one).dispatch

    def _layers(
        self, batch: Batch, x: np.ndarray, precision: schemes.Precision, resident: np.ndarray, which: str
    ) -> tuple[np.ndarray, list[LayerRouting]]:
        if precision not in PRECISIONS:
            raise UserError("a compiled pass must be in full, a draft, or a draft of the routed experts")
        self.executor.begin()
        walk = _Walk(self, batch, x, precision, resident, which)
        walk.run()
        self.dispatch = walk.dispatch
        return walk.logits, walk.routing


def whole_tiles(stack: ProjectionStack, columns: int) -> tuple[QuantizedWeights, np.ndarray | None]:
    """The INT8 matrix of a stack and its bias, with zero outputs up to a multiple of ``columns``."""
    weights, more = stack.stored(), -stack.outputs % columns
    bias = np.pad(stack.bias[0], (0, more)) if stack.bias.shape[1] else None
    if more:
        weights = QuantizedWeights(*(np.pad(part, ((0, more), (0, 0))) for part in (weights.q, weights.scales)))
    return weights, bias


class _Walk:
    """One pass, record by record; what an operation leaves for the next ones is an attribute."""

    def __init__(
        self,
        runtime: CompiledRuntime,
        batch: Batch,
        x: np.ndarray,
        precision: schemes.Precision,
        allowed: np.ndarray,
        which: str,
    ) -> None:
        self.runtime, self.batch, self.x, self.allowed, self.which = runtime, batch, x, allowed, which
        self.kernels, self.config = runtime._kernels, runtime.config
        self.routing: list[LayerRouting] = []
        self.logits = np.empty((0, self.config.vocab), np.float32)
        self.counts = np.zeros((sum(self.config.moe_layers), self.config.experts), np.int64)
        self.placed = np.array(runtime.placed())
        self.kind = self._kind(precision)
        self.dense_full = precision != schemes.DRAFT
        self.dispatch = runtime.compiled(self._pass())
        self.weights: LayerWeights | None = None
        self.layer = -1
        self.shared: np.ndarray | None = None

    def _kind(self, precision: schemes.Precision) -> PassKind:
        if precision != schemes.FULL:
            return PassKind.DRAFT
        if len(self.x) == len(self.batch.segments):
            return PassKind.DECODE
        return PassKind.VERIFY if self.which == "all" else PassKind.PREFILL

    def _pass(self) -> Pass:
        first = self.batch.first
        cached = [s.cache.length + node for s, node in zip(self.batch.segments, self.batch.nodes, strict=True)]
        rows_out = {"all": len(self.x), "last": len(first) - 1, "none": 0}[self.which]
        return Pass(
            kind=self.kind,
            tokens=np.diff(first),
            kv_lengths=np.array(cached),
            expert_tokens=self.counts,
            resident=self.placed,
            output_tokens=rows_out,
            dense_full=self.kind is PassKind.DRAFT and self.dense_full,
        )

    def run(self) -> None:
        """Walk the stream."""
        at = 0
        while at < len(self.dispatch):
            record, name = self.dispatch.records[at], self._name(at)
            if record["layer"] >= 0 and record["layer"] != self.layer:
                self.layer = int(record["layer"])
                self.weights = self.runtime.model.layer(self.layer)
            if record["kernel"] == Kernel.EXPERT:
                end = at
                while end < len(self.dispatch) and self.dispatch.records[end]["kernel"] == Kernel.EXPERT:
                    end += 1
                self._experts(self.dispatch.records[at:end])
                at = end
                continue
            if record["kernel"] != Kernel.REFILL:
                getattr(self, _OPERATIONS[name])(record)
            at += 1
            if name == "router weights":
                self._compile_on(at)

    def _name(self, at: int) -> str:
        return self.dispatch.names[self.dispatch.records[at]["operation"]]

    def _compile_on(self, walked: int) -> None:
        """The stream with what is known now; the records walked so far must be the same."""
        before = self.dispatch.records[:walked]
        self.dispatch = self.runtime.compiled(self._pass())
        if self.dispatch.records[:walked].tobytes() != before.tobytes():
            raise RuntimeError("the stream must not change where it has been walked")

    # --- products ------------------------------------------------------------------------------------------

    def _project(self, record: np.void, stack: ProjectionStack, x: np.ndarray) -> np.ndarray:
        where = f"{self.dispatch.names[record['operation']]} of layer {int(record['layer'])}"
        return self._project_quantized(record, stack, QuantizedActivations(*self.kernels.quantized(x, where)), len(x))

    def _project_quantized(
        self, record: np.void, stack: ProjectionStack, activations: QuantizedActivations, tokens: int | None = None
    ) -> np.ndarray:
        self._check(record, stack.outputs, stack.inputs, tokens)
        weights, bias = self.runtime.matrix(stack)
        return self.runtime.executor.project(
            weights,
            activations,
            mode=MODES[record["precision"]],
            tier=self._tier(record, dense=True),
            blocks=int(record["token_blocks"]),
            bias=bias,
        )[:, : stack.outputs]

    def _check(self, record: np.void, outputs: int, inputs: int, tokens: int | None = None) -> None:
        """A record must be of the matrix and the tokens that are there."""
        found = int(record["outputs"]), int(record["inputs"]), int(record["tokens"])
        wanted = outputs, inputs, found[2] if tokens is None else tokens
        if found != wanted:
            name = self.dispatch.names[record["operation"]]
            raise UserError(f"record {name!r} of layer {int(record['layer'])} must be {wanted}, not {found}")

    @staticmethod
    def _tier(record: np.void, *, dense: bool = False, whole: bool = False) -> str:
        """The kernels' tier; ``dense`` weights in HB lie there with both slices, an expert's where it is ``whole``."""
        if record["msb_tier"] == Tier.LPDDR:
            return "stream"
        both = record["lsb_tier"] == Tier.HB or (record["lsb_tier"] == Tier.NONE and (dense or whole))
        return "bank" if both and record["precision"] != Precision.MXFP4 else "hb"

    def _experts(self, records: np.ndarray) -> None:
        """All experts of a layer: gate and up of one, exchange, its down, the next one; then the combination."""
        routing, config = self.routing[-1], self.config
        width, hidden = config.moe.intermediate, config.hidden
        place = config.moe_layers[: self.layer].count(True)
        work, modes = [], set()
        for up, down in zip(records[::2], records[1::2], strict=True):
            number = int(up["expert"])
            tokens, slots = np.nonzero(routing.chosen == number)
            self._check(up, 2 * width, hidden, len(tokens))
            self._check(down, hidden, width, len(tokens))
            if any(down[field] != up[field] for field in ("expert", "precision", "msb_tier", "lsb_tier")):
                raise UserError(f"both records of expert {number} in layer {self.layer} must agree")
            modes.add(MODES[down["precision"]])
            tier = self._tier(down, whole=bool(self.placed[place, number].all()))
            shares, at_once = routing.weights[tokens, slots], self.runtime.executor.chip.array.rows
            expert = self.runtime.network(self.weights.experts, number)
            for start in range(0, len(tokens), at_once):
                part = slice(start, start + at_once)
                work.append(ExpertWork(number, expert, tier, tokens[part].tolist(), shares[part]))
        chosen = np.unique(routing.chosen[routing.chosen >= 0]).tolist()
        if len(modes) > 1 or sorted({item.number for item in work}) != chosen:
            raise UserError(f"records of layer {self.layer} must be the router's choice, in one precision")
        moe = config.moe
        clamp = (moe.swiglu_limit, moe.swiglu_alpha) if moe.swiglu_limit is not None else None
        activations = QuantizedActivations(*self.kernels.quantized(self.normed, f"experts of layer {self.layer}"))
        self.combined = self.runtime.executor.experts(
            work, activations, mode=modes.pop(), clamp=clamp, layer=self.layer
        )

    def gate_up(self, record: np.void) -> None:
        """The network is run as a whole at its down record."""
        self.up = record

    def dense_down(self, record: np.void) -> None:
        self.projected = self._network(record, self.weights.dense)

    def shared_down(self, record: np.void) -> None:
        self.shared = self._network(record, self.weights.shared)

    def _network(self, record: np.void, weights: FfnWeights) -> np.ndarray:
        self._check(self.up, weights.up.outputs, weights.up.inputs, len(self.x))
        self._check(record, weights.down.outputs, weights.down.inputs, len(self.x))
        where = f"feed-forward of layer {self.layer}"
        return self.runtime.executor.network(
            self.runtime.network(weights),
            QuantizedActivations(*self.kernels.quantized(self.normed, where)),
            mode=MODES[record["precision"]],
            tier=self._tier(record, dense=True),
            layer=self.layer,
        )

    def first_projection(self, record: np.void) -> None:
        self.first = self.queries = self._project(record, self.weights.first, self.normed)

    def query_up(self, record: np.void) -> None:
        self.queries = self._project(record, self.weights.query_up, self.latent_query)

    def latent_up(self, record: np.void) -> None:
        """Keys and values of all cached positions: the runtime's form of MLA, where the record's is absorbed."""
        self.expanded = [
            self._project_quantized(
                record,
                self.weights.kv_up,
                QuantizedActivations(*self.runtime._cached_latents(self.layer, segment.cache)),
            )
            for segment in self.batch.segments
        ]

    def output(self, record: np.void) -> None:
        self.projected = self._project(record, self.weights.output, self.mixed)

    def router(self, record: np.void) -> None:
        self.scores = self._project(record, self.weights.router, self.normed)

    def head(self, record: np.void) -> None:
        if self.which != "none":
            self.logits = self._project(record, self.runtime.model.head, self.features)

    # --- HOST operations -----------------------------------------------------------------------------------

    def embedding(self, _: np.void) -> None:
        """Done: the pass begins with its rows."""

    def attention_norm(self, _: np.void) -> None:
        self.normed = self.kernels.norm(self.x, self.weights.attention_norm, self.runtime._eps)

    def query_norm(self, _: np.void) -> None:
        self.latent_query = self.runtime._query_norm(self.weights, self.first)

    def heads(self, _: np.void) -> None:
        self.queries = self.runtime._heads(self.layer, self.weights, self.batch, self.first, self.queries)

    def attention(self, _: np.void) -> None:
        self.mixed = self.runtime._attend(
            self.layer, self.weights, self.batch, self.queries, lambda i: self.expanded[i]
        )

    def ffn_norm(self, _: np.void) -> None:
        rows.add_rows(self.x, self.projected)
        self.normed = self.kernels.norm(self.x, self.weights.ffn_norm, self.runtime._eps)

    def router_weights(self, _: np.void) -> None:
        record = self.runtime._route(self.layer, self.weights, self.scores, self.allowed[self.layer])
        self.counts[len(self.routing)] = np.bincount(record.chosen[record.chosen >= 0], minlength=self.config.experts)
        self.routing.append(record)
        self.combined = np.zeros_like(self.x)

    def residual(self, _: np.void) -> None:
        if self.config.moe_layers[self.layer]:
            self.projected = self.combined
            if self.shared is not None:
                rows.add_rows(self.projected, self.shared)
        rows.add_rows(self.x, self.projected)
        self.shared = None

    def final_norm(self, _: np.void) -> None:
        if self.which != "none":
            self.features = self.runtime.features(self.x[self.runtime._head_rows(self.batch, self.which)])

    def sampling(self, _: np.void) -> None:
        """The caller's."""


_OPERATIONS = {
    "embedding": "embedding",
    "attention norm": "attention_norm",
    "query, key, value": "first_projection",
    "query, latent": "first_projection",
    "query norm": "query_norm",
    "query": "query_up",
    "norm, RoPE": "heads",
    "latent up": "latent_up",
    "attention": "attention",
    "output": "output",
    "ffn norm": "ffn_norm",
    "dense gate, up": "gate_up",
    "dense down": "dense_down",
    "router": "router",
    "router weights": "router_weights",
    "shared gate, up": "gate_up",
    "shared down": "shared_down",
    "residual": "residual",
    "final norm": "final_norm",
    "head": "head",
    "sampling": "sampling",
}
"""Operation of the graph -> method of `_Walk`."""
