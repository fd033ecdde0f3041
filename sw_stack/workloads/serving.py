"""Serving as rounds: which passes a batch makes with a drafting method, what is resident, what is accepted.

No values are computed here: routing comes from a `RoutingSource`, acceptance from an `Acceptance`, time from a
``timer`` (the whole-model engine, or the roofline where none is given). A round follows the order of
`sw_stack.elastic.rounds`, which does the same with a model's values. Drafted node j of level i takes the routing of
the trace's token i + j: right tokens are the sequence's own, wrong ones its neighbours, which are as local.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from hw.errors import UserError, nearest
from sw_stack.elastic.drafters.protocol import WeightReads
from sw_stack.elastic.hb_share import HbShare
from sw_stack.elastic.hot_set import HotSet
from sw_stack.elastic.rounds import PLAIN_PHASE
from sw_stack.elastic.scheduler import DepthScheduler
from sw_stack.elastic.statistics import SpeculationStatistics
from sw_stack.elastic.time_predictor import PassWork
from sw_stack.elastic.traffic import TrafficMeter, matrix_weights, resident_bytes
from sw_stack.elastic.tree import TreeShape
from sw_stack.machines.engine.workload import Pass, PassKind
from sw_stack.machines.machine import Machine
from sw_stack.models.architectures import ModelConfig
from sw_stack.workloads.acceptance import Acceptance
from sw_stack.workloads.draft_models import draft_model
from sw_stack.workloads.pass_work import READS, MachinePredictor, WorkOfPasses, expert_share, kv_bytes_per_position
from sw_stack.workloads.requests import Request
from sw_stack.workloads.residency import Residency
from sw_stack.workloads.routing_source import RoutingSource, coverage, expert_tokens, restricted
from sw_stack.workloads.serving_types import Round, Serving, Slots, Step
from sw_stack.workloads.trace import Trace

HISTORY = 64
"""Tokens before the newest one whose routing chooses the first hot set, per sequence."""

Timer = Callable[[ModelConfig, Pass, PassWork], float]


class Server:
    """Simulates `Serving` of one model on one machine, round by round.

    Parameters
    ----------
    machine, config : the machine and the target
    trace : routing of the target
    acceptance : of the drafting method; None for plain decoding
    serving : what is served
    timer : seconds of a pass of a model; None = the machine's roofline

    Attributes
    ----------
    share : of HB; hot_set : resident slices
    statistics : of the rounds so far; requests : finished ones
    clock_s : now

    Raises UserError where the machine cannot run the method or HB cannot hold the dense weights.
    """

    def __init__(
        self,
        machine: Machine,
        config: ModelConfig,
        trace: Trace,
        acceptance: Acceptance | None,
        serving: Serving,
        timer: Timer | None = None,
    ) -> None:
        if serving.method not in machine.methods:
            known = nearest(serving.method, list(machine.methods))
            raise UserError(f"machine {machine.name} cannot draft with {serving.method!r}; {known}")
        if (acceptance is None) != (serving.method == "none"):
            raise UserError("acceptance must be given exactly where a method drafts")
        self.machine, self.config, self.acceptance, self.serving = machine, config, acceptance, serving
        self.shape = TreeShape(0) if serving.method == "none" else serving.shape
        self.reads = READS[serving.method]
        self.draft_config = draft_model(serving.method, config)
        own = matrix_weights(self.draft_config) if self.draft_config else 0
        kv, own_kv = (kv_bytes_per_position(each) if each else 0 for each in (config, self.draft_config))
        self._rng = np.random.default_rng([serving.seed, 3])
        self.source = RoutingSource(trace, sum(config.moe_layers), config.experts, serving.batch, serving.seed)
        whole = self._share(resident_bytes(config, self.reads, own), kv + own_kv)
        self.share, self.draft_share = whole.divided(kv / (kv + own_kv))
        self._work = WorkOfPasses(config, self.share)
        self._draft_work = WorkOfPasses(self.draft_config, self.draft_share) if self.draft_config else None
        self.predictor = MachinePredictor(machine, expert_share(config))
        self._timer = timer
        self.statistics = SpeculationStatistics(serving.batch, self.shape.depth)
        self.requests: list[Request] = []
        self.clock_s = 0.0
        self._waiting = serving.arrivals.requests(serving) if serving.arrivals else []
        self._slots = Slots.of(serving, self._rng)
        self._residency = Residency(machine, config, serving, self.share, self.predictor, own, own_kv / kv)
        self.hot_set = self._hot_set()
        self.meter = TrafficMeter(config, self.hot_set, self.reads, own, self.share, own_kv / kv)
        self.scheduler = DepthScheduler(serving.mode, self.shape, self.predictor, self.meter)
        self._counts = np.zeros(self.hot_set.resident.shape[:2], np.int64)
        self._counted_tokens = self._counted_passes = 0

    @property
    def allocation_reason(self) -> str:
        """Which slices HB keeps, and why, in words."""
        return self._residency.reason

    # --- begin ---------------------------------------------------------------------------------------------

    def _share(self, dense: int, kv_per_position: int) -> HbShare:
        """HB for ``dense`` bytes of weights, keys and values of target and drafter, experts with the rest."""
        s, moe_layers = self.serving, sum(self.config.moe_layers)
        if not self.machine.has_hb:
            return HbShare(dense, None, 0)
        kv = s.batch * (s.prompt_tokens + s.output_tokens) * kv_per_position
        return HbShare.of_capacity(self.machine.hb_capacity_bytes, dense, kv, moe_layers)

    def _hot_set(self) -> HotSet:
        """The hot set filled from the tokens before the newest, and why its allocation was chosen."""
        before = self.source.choices(np.arange(self.serving.batch), np.arange(-HISTORY, 0))
        return self._residency.choose(
            expert_tokens(before, self.config.experts),
            len(before),
            int(self._slots.kv.sum()) * self._work.kv_per_position,
            self.acceptance,
        )

    # --- rounds --------------------------------------------------------------------------------------------

    def run(self) -> Iterator[Round]:
        """Rounds until as many as asked for are done, or all requests."""
        number = 0
        while self.serving.rounds is None or number < self.serving.rounds:
            prefills = self._admit()
            if not self._slots.active.any():
                if not self._waiting:
                    return
                self.clock_s = max(self.clock_s, self._waiting[0].arrival_s)
                continue
            number += 1
            yield self._round(number, prefills)

    def _round(self, number: int, prefills: list[Step]) -> Round:
        start = self.clock_s - sum(step.seconds for step in prefills)
        slots = np.flatnonzero(self._slots.active)
        kv_bytes = int(self._slots.kv[slots].sum()) * self._work.kv_per_position
        decision = self.scheduler.decide(len(slots), kv_bytes, self.statistics)
        depth = decision.depth
        steps, covered = list(prefills), 1.0
        if depth:
            drafts, covered = self._draft(slots, depth)
            steps += drafts
        choices = self.source.choices(slots, self._tree_offsets(depth))
        if not (depth and self.reads is not WeightReads.OWN):
            self._count(choices)
            if self._counted_passes >= (self.shape.depth or PLAIN_PHASE):
                self._fix_next()
        steps.append(self._verify(slots, choices))
        new = self._accept(slots, depth, covered)
        self.source.advance(slots, new)
        self._finish(slots, new)
        return Round(number, start, decision, tuple(steps), new, len(slots) * depth * self.shape.width, covered)

    def _draft(self, slots: np.ndarray, depth: int) -> tuple[list[Step], float]:
        steps, mass = [], []
        for level in range(depth):
            nodes = np.arange(1 if level == 0 else self.shape.width) + level
            tokens = np.full(len(slots), len(nodes))
            kv = self._slots.kv[slots] + (1 + (level - 1) * self.shape.width if level else 0)
            if self.draft_config is not None:
                if level == 0:  # with the root what was committed since the last draft: its cache has none of that
                    tokens = self._slots.unread[slots]
                    kv = kv + 1 - tokens
                    self._slots.unread[slots] = 0
                steps.append(self._own_step(PassKind.DECODE, tokens, kv, len(nodes) * len(slots)))
                continue
            choices = self.source.choices(slots, nodes)
            self._count(choices)
            mask = self.hot_set.resident[:, :, 0]
            used = choices
            if self.reads.resident_only:
                mass.append(coverage(choices, self.source.weights(slots, nodes), mask))
                used = restricted(choices, mask, self.hot_set.usage, self._rng)
            one = Pass(
                kind=PassKind.DRAFT,
                tokens=tokens,
                kv_lengths=kv,
                expert_tokens=expert_tokens(used, self.config.experts),
                resident=self.hot_set.resident.copy(),
            )
            if level == depth - 1:
                self._fix_next()
                if self._copy:  # read by drafts only, so its set changes behind the last one
                    one = self._replaced(one)
            steps.append(self._step(self.config, one, self._work))
        return steps, float(np.mean(mass)) if mass else 1.0

    def _own_step(self, kind: PassKind, tokens: np.ndarray, kv: np.ndarray, output_tokens: int | None) -> Step:
        """A pass of the drafter's own dense model."""
        one = Pass(
            kind=kind,
            tokens=tokens,
            kv_lengths=kv,
            expert_tokens=np.zeros((0, 0), np.int64),
            resident=np.zeros((0, 0, 2), np.bool_),
            output_tokens=output_tokens,
        )
        return self._step(self.draft_config, one, self._draft_work)

    def _tree_offsets(self, depth: int) -> np.ndarray:
        """Trace tokens, after the newest, whose routing the root and the nodes of a tree take."""
        return np.array([0, *(i + j for i in range(1, depth + 1) for j in range(self.shape.width))])

    def _verify(self, slots: np.ndarray, choices: np.ndarray) -> Step:
        one = self._target(slots, choices)
        return self._step(self.config, one if self._copy else self._replaced(one), self._work)

    def _replaced(self, one: Pass) -> Pass:
        """The pass with the set that replaces the resident one behind it, if it changes."""
        for layer, used in enumerate(one.expert_tokens > 0):
            self.hot_set.replace(layer, used[:, None] & ~one.resident[layer])
        self.hot_set.end_pass()
        if np.array_equal(one.resident, self.hot_set.resident):
            return one
        return replace(one, next_resident=self.hot_set.resident.copy())

    @property
    def _copy(self) -> bool:
        """Whether what is resident are a 4-bit copy's experts, not the target's."""
        return self.reads is WeightReads.COPY

    def _target(self, slots: np.ndarray, choices: np.ndarray) -> Pass:
        resident = self.hot_set.resident
        nodes = len(choices) // len(slots)
        return Pass(
            kind=PassKind.DECODE if nodes == 1 else PassKind.VERIFY,
            tokens=np.full(len(slots), nodes),
            kv_lengths=self._slots.kv[slots],
            expert_tokens=expert_tokens(choices, self.config.experts),
            resident=np.zeros_like(resident) if self._copy else resident.copy(),
        )

    def target_pass(self, depth: int, ahead: int = 0) -> Pass:
        """The pass that decides tokens with a tree of ``depth``, 0 = plain, ``ahead`` tokens on; nothing moves."""
        slots = np.flatnonzero(self._slots.active)
        choices = self.source.choices(slots, self._tree_offsets(depth) + ahead)
        return self._target(slots, choices)

    def work_of(self, one: Pass) -> PassWork:
        """Bytes and arithmetic of a pass of the target."""
        return self._work.of(one)

    def _accept(self, slots: np.ndarray, depth: int, covered: float) -> np.ndarray:
        """New tokens per slot: accepted levels and the bonus token, no more than a request still wants."""
        s = self.statistics
        s.rounds += len(slots)
        s.depths[depth] = s.depths.get(depth, 0) + 1
        accepted = np.zeros(len(slots), np.int64)
        if depth:
            shape = TreeShape(depth, self.shape.width)
            a = self.acceptance.by_position(shape, covered, self.serving.corner)
            right = self._rng.random((len(slots), depth)) < a
            accepted = np.cumprod(right, axis=1).sum(axis=1)
            reached = np.minimum(accepted + 1, depth)
            for slot, tried, good in zip(slots, reached, accepted, strict=True):
                s.tried[slot, :tried] += 1
                s.accepted[slot, :good] += 1
            s.drafted_rounds += len(slots)
            s.drafted_nodes += len(slots) * shape.nodes
            s.drafted_tokens += int(accepted.sum()) + len(slots)
            s.covered, s.wanted = s.covered + covered, s.wanted + 1
        new = np.minimum(accepted + 1, self._slots.left[slots])
        s.tokens += int(new.sum())
        return new

    def _step(self, model: ModelConfig, one: Pass, work_of: WorkOfPasses) -> Step:
        work = work_of.of(one)
        if self._timer is None:
            seconds = self.predictor.seconds(work)
        else:
            seconds = self._timer(model, one, work)
            self.predictor.observe(work, seconds)
        self.clock_s += seconds
        return Step(model, one, work, seconds)

    # --- hotness -------------------------------------------------------------------------------------------

    def _count(self, choices: np.ndarray) -> None:
        self._counts += expert_tokens(choices, self.config.experts)
        self._counted_tokens += len(choices)
        self._counted_passes += 1

    def _fix_next(self) -> None:
        if self.share.expert:
            self.hot_set.fix_next(self._counts, self._counted_tokens)
        else:
            self.hot_set.usage = self._counts / max(self._counted_tokens, 1)
        self._counts = np.zeros_like(self._counts)
        self._counted_tokens = self._counted_passes = 0

    # --- requests ------------------------------------------------------------------------------------------

    def _admit(self) -> list[Step]:
        """Requests that have arrived take free slots, each with a prefill."""
        steps = []
        for slot in np.flatnonzero(~self._slots.active):
            if not self._waiting or self._waiting[0].arrival_s > self.clock_s:
                break
            request = self._waiting.pop(0)
            self.source.begin(slot)
            choices = self.source.choices(np.array([slot]), np.arange(request.prompt_tokens))
            one = Pass(
                kind=PassKind.PREFILL,
                tokens=np.array([request.prompt_tokens]),
                kv_lengths=np.zeros(1, np.int64),
                expert_tokens=expert_tokens(choices, self.config.experts),
                resident=self.hot_set.resident.copy(),
            )
            steps.append(self._step(self.config, one, self._work))
            if self.draft_config is not None:
                steps.append(self._own_step(PassKind.PREFILL, one.tokens, one.kv_lengths, None))
            request.first_token_s = self.clock_s
            self.source.advance(np.array([slot]), np.array([request.prompt_tokens]))
            self._slots.occupy(slot, request.prompt_tokens, request.output_tokens - 1, request)
            if self._slots.left[slot] == 0:
                self._end(slot)
        return steps

    def _finish(self, slots: np.ndarray, new: np.ndarray) -> None:
        for slot in self._slots.commit(slots, new):
            if self.serving.arrivals:
                self._end(slot)
            else:  # the steady state: the next request begins at once, its prefill not counted
                self._slots.occupy(slot, self.serving.prompt_tokens, self.serving.output_tokens)
                self.source.begin(slot)

    def _end(self, slot: int) -> None:
        request = self._slots.request[slot]
        request.done_s = self.clock_s
        self.requests.append(request)
        self._slots.active[slot], self._slots.request[slot] = False, None
