"""``elmoe3d dram``: figures, tables, traces, files, and one line for every mistake; weight layouts are complete."""

from __future__ import annotations

import json
import xml.etree.ElementTree
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from hw.errors import UserError
from sw_stack.commands.main import main
from sw_stack.compiler.layout import (
    HB_POLICIES,
    LSB_EIGHTHS,
    MSB_EIGHTHS,
    QWEN3_30B_A3B,
    ExpertShape,
    hb_bytes_per_pe,
    lpddr_extent,
)
from sw_stack.compiler.layout_study import lpddr_layouts
from sw_stack.workloads.dram_trace import read_trace


def run(*arguments: object) -> None:
    """The command in this process."""
    with pytest.raises(SystemExit) as stop:
        main(["dram", *map(str, arguments)])
    assert stop.value.code == 0


def fail(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    """The one line that a mistake prints; exit status 2."""
    with pytest.raises(SystemExit) as stop:
        main(["dram", *map(str, arguments)])
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_trace_is_served_as_worked_by_hand(tmp_path: Path) -> None:
    """Five lines in all spellings: RD 15 and the hit 19, ends 34 and 38 clocks of 1.25 ns."""
    trace = tmp_path / "five.trace"
    trace.write_text(
        "# op address cycle\nR 0x0 0\n\nld 512 0 # same row, next column\nLD 0x200 0\nW 256 1000\nST 0x300 1000\n"
    )
    run("--pattern", "trace", trace, "--refresh", "none", "--json", tmp_path / "r.json", "--quiet")
    result = json.loads((tmp_path / "r.json").read_text())["result"]
    assert result["counts"]["lpddr_reads"] == 3
    assert result["counts"]["lpddr_writes"] == 2
    # ends: 34, 38, 42; writes at 1000: ACT bank 8, WR 1015 and 1019, ends 1026 and 1030
    assert result["latency_ns"]["max"] == 42 * 1.25
    assert result["time_us"] == pytest.approx(1030 * 1.25 / 1000)
    assert sum(c["requests"] for c in result["channels"]) == 5


def test_tables_files_and_repeatability(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """All mappings under all refresh modes; the figure as PNG and SVG; the same seed gives the same bytes."""
    for name in ("a", "b"):
        run("--pattern", "random", "--requests", 3000, "--json", tmp_path / f"{name}.json", "--quiet")
    assert capsys.readouterr().out == ""
    first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("a", "b"))
    assert first["result"] == second["result"]
    table = first["percent_of_peak_by_mapping_and_refresh"]
    assert len(table) == 5 and all(set(row) == {"none", "all-bank", "per-bank"} for row in table.values())
    assert first["provenance"]["config"]["timing"]["tRCD_ns"] == 18.75
    run("--requests", 3000, "--plot", "--out", tmp_path)
    assert "weight-stream" in capsys.readouterr().out
    xml.etree.ElementTree.parse(tmp_path / "lpddr5-latency.svg")
    assert (tmp_path / "lpddr5-latency.png").read_bytes().startswith(b"\x89PNG")


def test_overrides_from_toml(tmp_path: Path) -> None:
    """A slower part and one rank from a TOML file change the result, and are recorded with it."""
    config = tmp_path / "memory.toml"
    config.write_text('[timing]\ntRCD_ns = 30.0\n[organization]\nranks = 1\n[controller]\nrefresh = "all-bank"\n')
    run("--requests", 2000, "--config", config, "--json", tmp_path / "r.json", "--quiet")
    made = json.loads((tmp_path / "r.json").read_text())
    assert made["provenance"]["config"]["organization"]["ranks"] == 1
    assert made["provenance"]["config"]["controller"]["refresh"] == "all-bank"


def test_hb_stream_matches_its_closed_form(tmp_path: Path) -> None:
    """Every row size and temperature class within 0.1 % of the closed form; larger rows and cooler banks are faster."""
    run("--device", "hb", "--requests", 2000, "--json", tmp_path / "r.json", "--quiet")
    rows = json.loads((tmp_path / "r.json").read_text())["streaming_by_row_and_temperature"]
    assert len(rows) == 24
    for row in rows:
        assert row["gb_per_s"] == pytest.approx(row["closed_form_gb_per_s"], rel=1e-3)
    bandwidth = {(r["temperature_c"], r["row_bytes"]): r["gb_per_s"] for r in rows}
    assert bandwidth[85, 65536] > bandwidth[85, 2048]
    assert bandwidth[85, 65536] > bandwidth[115, 65536]


BAD_TRACES = [
    ("R 0x10\nX 0x20\n", "line 2: operation"),
    ("R 0x10\n\nR\n", "line 3 must be"),
    ("R 1 2 3\n", "line 1 must be"),
    ("R 12g\n", "line 1: address must be a decimal or 0x"),
    ("R 1_0\n", "line 1: address must be a decimal or 0x"),
    ("R -5\n", "line 1: address must not be negative"),
    ("R 0x1000000000\n", "line 1: address must be below the capacity 0x1000000000"),
    ("R 0 5\nR 0 4\n", "line 2: cycle"),
    ("R 0 5\nR 0\n", "line 2: either every line or none"),
    ("R 0\nR 0 5\n", "line 2: either every line or none"),
    ("# nothing\n", "at least one request"),
    ("R 0\u00e9\n", "ASCII"),
]


@pytest.mark.parametrize("text, message", BAD_TRACES, ids=range(len(BAD_TRACES)))
def test_malformed_trace_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture, text: str, message: str) -> None:
    """The line at fault is named; nothing else is printed; exit status 2."""
    trace = tmp_path / "bad.trace"
    trace.write_text(text)
    assert message in fail(capsys, "--pattern", "trace", trace)


def test_other_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Unknown names, missing files, options that do not go together, tables that contradict themselves."""
    bad = tmp_path / "bad.toml"
    bad.write_text("[timing]\ntRC_ns = 10.0\n")
    broken = tmp_path / "broken.toml"
    broken.write_text("[timing\n")
    for arguments, message in (
        (("--device", "hbm"), "unknown device"),
        (("--pattern", "burst"), "unknown pattern"),
        (("--mapping", "weight-steam"), "did you mean weight-stream"),
        (("--refresh", "bank"), "refresh 'bank' is unknown"),
        (("--pattern", "trace"), "a trace FILE must come"),
        (("--pattern", "trace", tmp_path / "none.trace"), "cannot be read"),
        (("--config", bad), "tRC_ns must be at least tRAS_ns + tRPpb_ns"),
        (("--config", broken), "not valid TOML"),
        (("--config", tmp_path / "none.toml"), "cannot be read"),
        (("--device", "hb", "--mapping", "xor-hashed"), "must go with --device lpddr5"),
        (("--requests", 1), "--requests must be"),
    ):
        assert message in fail(capsys, *arguments)


def test_trace_capacity_is_the_devices(tmp_path: Path) -> None:
    """An address is held against the capacity that it is read for."""
    trace = tmp_path / "t.trace"
    trace.write_text("R 0x100\n")
    assert read_trace(trace, 0x101).addresses.tolist() == [0x100]
    with pytest.raises(UserError, match="line 1"):
        read_trace(trace, 0x100)


@pytest.mark.parametrize("pes", [16, 32])
def test_hb_layout_places_every_byte(pes: int) -> None:
    """Each policy places 3 x 2048 x 768 weights of 4.5 bits; gate and up of a column together; published imbalance."""
    total = 3 * 2048 * 768 * 9 // 16
    for policy in HB_POLICIES:
        for expert in range(5):
            assert hb_bytes_per_pe(QWEN3_30B_A3B, expert, pes, policy).sum() == total
    # by hand, 16 PEs, expert 0: columns 0-23 give PEs 0-7 two and the others one; 64 down tiles give each four
    loads = hb_bytes_per_pe(QWEN3_30B_A3B, 0, 16)
    column, down = 2 * 32 * 2048 * 9 // 16, 32 * 768 * 9 // 16
    assert loads.tolist() == [2 * column + 4 * down] * 8 + [column + 4 * down] * 8
    # two experts one after the other: 2 x 88 tiles; columns of the second begin at PE 8, so that all have three
    both = hb_bytes_per_pe(QWEN3_30B_A3B, 0, 16) + hb_bytes_per_pe(QWEN3_30B_A3B, 1, 16)
    assert both.tolist() == [3 * column + 8 * down] * 16
    restart = 2 * hb_bytes_per_pe(QWEN3_30B_A3B, 0, 16, "restart at PE 0")
    assert restart.max() / restart.mean() == pytest.approx(1.2222, abs=1e-4)


def test_lpddr_layout_is_aligned_and_disjoint() -> None:
    """Experts begin at multiples of 32 KiB, do not overlap, and hold 8.5 bits per weight; an LSB tile fills 32 KiB."""
    extents = [lpddr_extent(QWEN3_30B_A3B, e) for e in range(128)]
    for (a, size), (b, _) in pairwise(extents):
        assert a % 32768 == 0 and a + size <= b
        assert size == 3 * 2048 * 768 * 17 // 16
    assert QWEN3_30B_A3B.tile_bytes(2048, LSB_EIGHTHS) == 32768
    assert QWEN3_30B_A3B.tile_bytes(2048, MSB_EIGHTHS) == 36864
    with pytest.raises(UserError, match="multiple of 32"):
        ExpertShape(hidden=2048, inter=700)


def test_chosen_lpddr_layout_beats_the_naive_ones() -> None:
    """Near the command bus's limit (97.6 % less refresh), at least three times an expert per channel; stream agrees."""
    measured = {m.layout: m for m in lpddr_layouts(4)}
    chosen = measured["contiguous, weight-stream"]
    assert 96 < chosen.percent_of_peak < 97.7
    assert chosen.percent_of_peak > 3 * measured["expert per channel"].percent_of_peak
    assert chosen.percent_of_peak > 1.9 * measured["contiguous, row-bank-rank-column-channel"].percent_of_peak
    assert measured["chosen, by stream mode"].percent_of_peak == pytest.approx(chosen.percent_of_peak, rel=2e-3)
    assert np.isclose(chosen.max_over_mean, 1.0)
