"""Traffic for the LPDDR5 tests, and the command traces of the model in the checker's terms."""

from __future__ import annotations

import numpy as np

from cycle_model.lpddr.addressing import Mapping
from cycle_model.lpddr.memory import Lpddr5Exact, Run
from cycle_model.lpddr.rules import COMMANDS, first_refresh_due
from verification.bench.lpddr5_checker import Command, check


def commands_of(trace: np.ndarray, mapping: Mapping) -> list[Command]:
    """One channel's recorded commands, (4, n), for the checker: columns with the row that their address wants."""
    _, _, rows, _ = mapping.decode(trace[3] * mapping.organization.burst_bytes)
    made = []
    for cycle, code, bank, place, row in zip(*trace.tolist(), rows.tolist(), strict=True):
        name = COMMANDS[code]
        made.append(Command(cycle, name, bank // 16, bank % 16, place if name == "ACT-1" else row))
    return made


def check_run(memory: Lpddr5Exact, run: Run) -> int:
    """Check the commands of every channel; how many there were."""
    due = tuple(int(cycle) for cycle in first_refresh_due(memory.policy, 4))
    refresh = memory.config.controller.refresh
    return sum(check(commands_of(trace, memory.mapping), refresh, due) for trace in run.command_traces)


def mixed_traffic(
    rng: np.random.Generator, mapping: Mapping, count: int, channel: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(addresses, writes, arrivals) of one channel that provoke every constraint.

    Few rows, bursts of the same bank, group and rank, reads and writes in phases, idle gaps.
    """
    org = mapping.organization
    addresses, writes, arrivals = [], [], []
    cycle, write = 0, 0
    place = [0, 0, 0, 0]
    for _ in range(count):
        change = rng.random(5)
        if change[0] < 0.08:
            place[0] = int(rng.integers(org.ranks))
        if change[1] < 0.3:
            place[1] = int(rng.integers(org.bank_groups))
        if change[2] < 0.2:
            place[2] = int(rng.integers(org.banks_per_group))
        if change[3] < 0.2:
            place[3] = int(rng.integers(3))
        if change[4] < 0.15:
            write = int(rng.random() < 0.4)
        addresses.append(mapping.encode(channel, *place, int(rng.integers(org.bursts_per_row))))
        writes.append(write)
        cycle += int(rng.choice([0, 0, 0, 1, 2, 5, 15, 40, 300], p=[0.5, 0.1, 0.1, 0.1, 0.08, 0.05, 0.04, 0.02, 0.01]))
        arrivals.append(cycle)
    return np.array(addresses), np.array(writes), np.array(arrivals)
