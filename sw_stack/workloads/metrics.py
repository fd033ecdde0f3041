"""Figures of a serving beside tokens and energy: does it fit, distinct experts, target efficiency."""

from __future__ import annotations

import numpy as np

from sw_stack.elastic.traffic import MSB_BYTES, matrix_weights
from sw_stack.machines.capacity import Fit, fit, weight_bytes
from sw_stack.machines.machine import Machine
from sw_stack.models.architectures import ModelConfig
from sw_stack.workloads.draft_models import draft_model
from sw_stack.workloads.pass_work import kv_bytes_per_position
from sw_stack.workloads.serving import Server, Timer
from sw_stack.workloads.serving_types import Serving


def fits(machine: Machine, config: ModelConfig, serving: Serving, precision: str | None = None) -> Fit:
    """Weights, KV of all positions and what the drafting method stores of its own (its model and KV), against the
    machine's memory.

    A 4-bit target is its own 4-bit copy. ``precision``: None = the machine's.
    """
    precision = precision or machine.precision
    positions = serving.batch * (serving.prompt_tokens + serving.output_tokens)
    kv = positions * kv_bytes_per_position(config)
    extra = 0.0
    if serving.method == "quant" and precision == "int8":
        extra = matrix_weights(config) * MSB_BYTES
    drafter = draft_model(serving.method, config)
    if drafter is not None:
        extra = weight_bytes(drafter) + positions * kv_bytes_per_position(drafter)
    return fit(machine, config, kv, precision, extra)


def expected_unique(experts: int, top_k: int, tokens: float) -> float:
    """Distinct experts that independent uniform choices of ``tokens`` tokens reach: N (1 - (1 - k/N)^t)."""
    return experts * (1 - (1 - top_k / experts) ** tokens)


def target_efficiency(server: Server, timer: Timer, repeats: int = 4) -> float:
    """T(B, 1) / T(B, g): time of a plain pass of the batch over that of verifying its trees; 1 = verification is free.

    Mean over ``repeats`` positions of the server's sequences, which are read but not advanced.
    """
    plain, verify = [], []
    for ahead in range(repeats):
        for times, depth in ((plain, 0), (verify, server.shape.depth)):
            one = server.target_pass(depth, ahead)
            times.append(timer(server.config, one, server.work_of(one)))
    return float(np.sum(plain) / np.sum(verify))
