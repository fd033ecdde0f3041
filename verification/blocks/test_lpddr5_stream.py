"""LPDDR5 stream mode equals exact: every command of every channel, cycle by cycle, and every counter."""

from __future__ import annotations

import numpy as np
import pytest

from cycle_model.lpddr.memory import Lpddr5Exact
from cycle_model.lpddr.rules import ACT1, ACT2, CAS, COMMANDS, RD
from cycle_model.lpddr.stream_memory import Lpddr5Stream
from hw.errors import UserError
from hw.lpddr5_config import REFRESH_MODES, Lpddr5Config, Lpddr5Controller
from hw.lpddr5_timing import Lpddr5Organization

BURST = 32


def _expand(log: np.ndarray, banks: int) -> list[tuple[int, int, int]]:
    """A channel's steps as (cycle, command, bank) of the row commands and reads: a run alternates within a pair."""
    made = []
    for cycle, command, bank, count in log.T.tolist():
        rank, place = divmod(bank, banks)
        other = rank * banks + (place + banks // 2) % banks
        made += [(cycle + 2 * k, command, other if k % 2 else bank) for k in range(count)]
    return made


def _compare(config: Lpddr5Config, extents: list[tuple[int, int, int]]) -> int:
    """Serve (first burst, bursts, idle clocks before) one after another in both; how many commands were compared."""
    exact, stream = Lpddr5Exact(config), Lpddr5Stream(config)
    compared = 0
    for first, count, idle in extents:
        start = max(int(ch.bus) for ch in exact.channels) + idle
        run = exact.run(np.arange(first, first + count) * BURST, arrivals=np.full(count, start), record=True)
        read = stream.read(first * BURST, count * BURST, start, log_steps=8 * count + 4000)
        assert read.done == run.done.max()
        for c, trace in enumerate(run.command_traces):
            skipped = np.isin(trace[1], (ACT2, CAS))  # each implied by the command beside it
            issued = [tuple(command) for command in trace[:3, ~skipped].T.tolist()]
            assert _expand(stream.log[c], int(exact.rules.banks)) == issued
            assert exact.channels[c].bus == stream.channels[c].bus
            assert exact.channels[c].counter[:9].tolist() == stream.channels[c].counter[:9].tolist()
            compared += len(issued)
    return compared


@pytest.mark.parametrize("refresh", REFRESH_MODES)
def test_stream_equals_exact_on_random_extents(refresh: str) -> None:
    """Any lengths, starts, idle gaps, refresh phases, queue depths and postponements, states carried over."""
    rng = np.random.default_rng(20)
    compared = 0
    for _ in range(12):
        controller = Lpddr5Controller(
            refresh=refresh,
            read_queue=int(rng.choice([1, 4, 16, 32, 64])),
            postponed=int(rng.choice([1, 3, 8])),
            refresh_phase=int(rng.integers(0, 4000)),
        )
        extents, following = [], 0
        for _ in range(4):
            count = int(rng.choice([1, 7, 60, 900, 5000])) * int(rng.integers(1, 5))
            first = following if rng.random() < 0.4 else int(rng.integers(0, 2**30))
            extents.append((first, count, int(rng.choice([0, 1, 37, 5000]))))
            following = first + count
        compared += _compare(Lpddr5Config(controller=controller), extents)
    print(f"{compared} commands compared")
    assert compared > 80_000


def test_stream_equals_exact_at_every_refresh_phase() -> None:
    """One rank, so that REFpb meets every part of a row: every 17th phase of the refresh interval."""
    one_rank = Lpddr5Organization(channels=1, ranks=1)
    compared = 0
    for phase in range(0, 391, 17):
        controller = Lpddr5Controller(refresh_phase=phase, postponed=2)
        compared += _compare(Lpddr5Config(organization=one_rank, controller=controller), [(phase, 4100, 0)])
    assert compared > 90_000


@pytest.mark.parametrize("offset", [0, 1, 63, 64, 126, 127])
def test_stream_equals_exact_around_row_ends(offset: int) -> None:
    """Extents that begin and end just before, at and after the end of a pair of rows."""
    org = Lpddr5Organization(channels=1)
    compared = sum(
        _compare(Lpddr5Config(organization=org), [(offset, count, 0)]) for count in (*range(1, 8), *range(120, 136))
    )
    assert compared > 1000


def test_steps_grow_with_rows_not_bytes() -> None:
    """Doubling the row at equal bytes halves the steps; at equal rows they stay."""

    def steps(row_bytes: int, rows: int) -> int:
        org = Lpddr5Organization(channels=1, row_bytes=row_bytes, rows=65536 * 2048 // row_bytes)
        controller = Lpddr5Controller(refresh="none")
        stream = Lpddr5Stream(Lpddr5Config(organization=org, controller=controller))
        stream.read(0, row_bytes * 64)  # every bank holds a row: from here on each row costs PRE, ACT and its reads
        stream.read(row_bytes * 64, row_bytes * rows, log_steps=100_000)
        return stream.log[0].shape[1]

    assert steps(4096, 256) == steps(8192, 256) == pytest.approx(steps(2048, 256), rel=0.01)
    assert 2 * steps(4096, 128) == pytest.approx(steps(2048, 256), rel=0.01)
    assert steps(2048, 256) < 6 * 256  # a row holds 64 bursts


def test_stream_near_peak_is_what_the_command_bus_leaves() -> None:
    """Closed form: a pair of rows is 128 x 2 clocks of reads and 2 x (PRE 1 + ACT 2), every eighth pair a rank switch.

    The last rank switch is not followed by a pair; before the first read lie ACT and nRCD, CAS in front of RD.
    """
    org = Lpddr5Organization(channels=1)
    stream = Lpddr5Stream(Lpddr5Config(organization=org, controller=Lpddr5Controller(refresh="none")))
    pairs = 3200
    stream.read(0, 32 * 4096)  # every bank holds a row from here on
    before = int(stream.channels[0].last_data)
    done = stream.read(32 * 4096, pairs * 4096, stream.now).done
    clocks = pairs * (256 + 6) + pairs // 8 * 2
    assert abs((done - before) - clocks) < 60  # one start: PRE, nRP, ACT, nRCD
    assert 32 * 128 * pairs / (done - before) / 1.25 == pytest.approx(12.8 * 256 / 262.25, rel=1e-3)


def test_unsupported_controllers_are_refused() -> None:
    """Closed page and a queue deeper than a row are user errors, as are odd and overlong extents."""
    for controller in (Lpddr5Controller(page="closed"), Lpddr5Controller(read_queue=65)):
        with pytest.raises(UserError, match="stream mode must have"):
            Lpddr5Stream(Lpddr5Config(controller=controller))
    stream = Lpddr5Stream()
    for extent in ((1, 32), (0, 0), (0, 31), (-32, 32)):
        with pytest.raises(UserError, match="multiples of 32"):
            stream.read(*extent)
    with pytest.raises(UserError, match="capacity"):
        stream.read(2**36 - 32, 64)


def test_command_codes_cover_the_names() -> None:
    """The codes used here name the commands they stand for."""
    assert [COMMANDS[c] for c in (ACT1, ACT2, CAS, RD)] == ["ACT-1", "ACT-2", "CAS", "RD"]
