"""``elmoe3d dram``: what a DRAM delivers under a stream, random reads or a trace, and at which latency."""

import json
import tomllib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

from rich.box import SIMPLE_HEAD
from rich.table import Table
from typer import Argument, Option

from hw.errors import UserError, nearest
from hw.files import write_atomic
from sw_stack.reports import terminal

DEVICES = ("lpddr5", "hb")
PATTERNS = ("stream", "random", "trace")
TABLE_REQUESTS, CURVE_REQUESTS = 60_000, 20_000
HB_TABLE_BYTES = 1 << 23


def command(
    file: Annotated[Path | None, Argument(help="Trace file, with --pattern trace.")] = None,
    device: Annotated[str, Option(help="lpddr5 (all 8 channels) or hb (one bank).")] = "lpddr5",
    pattern: Annotated[str, Option(help="stream, random or trace.")] = "stream",
    requests: Annotated[int, Option(help="Requests of a generated pattern.")] = 200_000,
    mapping: Annotated[str | None, Option(help="LPDDR5 address mapping (default weight-stream).")] = None,
    refresh: Annotated[str | None, Option(help="LPDDR5 refresh: none, all-bank or per-bank (default).")] = None,
    config: Annotated[Path | None, Option(help="TOML with [organization], [timing], [controller] overrides.")] = None,
    banks: Annotated[int, Option(help="HB banks beside each other (16 in 4gb, 32 in 8gb).")] = 16,
    layout: Annotated[bool, Option("--layout", help="Also measure weight layouts of Qwen3-30B-A3B's experts.")] = False,
    plot: Annotated[bool, Option("--plot", help="Draw the latency-throughput curve.")] = False,
    json_path: Annotated[Path | None, Option("--json", help="Write all numbers here, with provenance.")] = None,
    out: Annotated[Path, Option(help="Folder of the figure.")] = Path("build/dram"),
    seed: Annotated[int, Option(help="Seed of every generator.")] = 0,
    quiet: Annotated[bool, Option("--quiet", help="Write the files, print nothing.")] = False,
) -> None:
    """Bandwidth, latency, row statistics and action counts of a DRAM.

    LPDDR5 is simulated command by command; besides the run itself, a table
    shows no, all-bank and per-bank refresh for each address mapping. The HB
    bank's streaming figure is shown over row size and refresh temperature
    class beside its closed form. Traces are Ramulator-style text: a line is
    'R|LD|W|ST address [cycle]'. docs/lpddr5.md explains rules and columns.
    """
    for name, value, known in (("device", device, DEVICES), ("pattern", pattern, PATTERNS)):
        if value not in known:
            raise UserError(f"unknown {name} {value!r}; {nearest(value, list(known))}")
    if (pattern == "trace") != (file is not None):
        raise UserError("a trace FILE must come with --pattern trace, and only with it")
    if not 100 <= requests <= 5_000_000:
        raise UserError(f"--requests must be 100 to 5000000, not {requests!r}")
    if not 1 <= banks <= 256:
        raise UserError(f"--banks must be 1 to 256, not {banks!r}")
    if device == "hb" and (mapping or refresh or config):
        raise UserError("--mapping, --refresh and --config must go with --device lpddr5")
    if device == "lpddr5":
        document, tables, curves, peak, title = _lpddr5(file, pattern, requests, mapping, refresh, config, plot, seed)
    else:
        document, tables, curves, peak, title = _hb(file, pattern, requests, banks, plot, seed)
    if layout:
        measured = _layouts(device, seed)
        document["layouts"] = {name: [asdict(m) for m in made] for name, made in measured.items()}
        tables += [_layout_table(name, made) for name, made in measured.items()]
    written = []
    if plot:
        from sw_stack.reports.style import render
        from sw_stack.workloads.dram_figure import draw

        figure = draw(curves, peak, title)
        written = [write_atomic(out / f"{device}-latency.{kind}", render(figure, kind)) for kind in ("png", "svg")]
        document["latency_curve"] = {name: [asdict(p) for p in points] for name, points in curves.items()}
    if json_path:
        written.append(write_atomic(json_path, json.dumps(document, indent=1, allow_nan=False) + "\n"))
    if not quiet:
        console = terminal.console()
        for table in tables:
            console.print(table)
        for path in written:
            console.print(f"wrote {path}")


def _load(config: Path | None):
    """The preset, or the preset with the overrides of a TOML file."""
    from hw.lpddr5_config import Lpddr5Config, config_from_tables

    if config is None:
        return Lpddr5Config()
    try:
        return config_from_tables(tomllib.loads(config.read_text()), str(config))
    except OSError as error:
        raise UserError(f"{config} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{config} is not valid TOML: {error}") from error


def _lpddr5(file, pattern, requests, mapping_name, refresh, config, plot, seed):
    import numpy as np

    from cycle_model.lpddr.addressing import RECOMMENDED, mapping, mappings
    from sw_stack.provenance import provenance
    from sw_stack.workloads import lpddr_study as study
    from sw_stack.workloads.dram_trace import DramTrace, read_trace

    memory = _load(config)
    name = mapping(mapping_name or RECOMMENDED, memory.organization).name
    if refresh is not None:
        memory = replace(memory, controller=replace(memory.controller, refresh=refresh))
    if file is not None:
        trace = short = read_trace(file, memory.organization.capacity_bytes)
    else:
        addresses = study.addresses_of(pattern, requests, memory, seed)
        trace = DramTrace(addresses, np.zeros(requests, bool), None)
        short = DramTrace(*(column[:TABLE_REQUESTS] for column in (trace.addresses, trace.writes)), None)
    result = study.summary(study.run_trace(memory, name, trace))
    refreshes = study.refresh_table(memory, short)
    curves = {}
    if plot:
        for kind, each in (("stream", name), ("random", name), ("stream", "row-bank-rank-column-channel")):
            curves[f"{kind}, {each}"] = study.latency_curve(memory, each, kind, CURVE_REQUESTS, seed)
    what = f"{file}" if file else f"{pattern}, {requests:,} reads of 32 bytes"
    document = {
        "provenance": provenance(
            {"device": "lpddr5", "pattern": pattern, "requests": len(trace.addresses), "mapping": name}
            | {part: asdict(getattr(memory, part)) for part in ("organization", "timing", "controller")},
            seed,
        ),
        "result": result,
        "percent_of_peak_by_mapping_and_refresh": refreshes,
    }
    channels = Table(
        *("channel", "requests", "GB/s", "% of peak", "row hits", "misses", "conflicts", "activates", "refreshes"),
        title="per channel",
        box=SIMPLE_HEAD,
    )
    for c in result["channels"]:
        channels.add_row(
            str(c["channel"]),
            f"{c['requests']:,}",
            f"{c['gb_per_s']:.2f}",
            f"{c['percent_of_peak']:.1f}",
            *(f"{c[key]:,}" for key in ("row_hits", "row_misses", "row_conflicts", "activates", "refreshes")),
        )
    modes = Table("mapping", *next(iter(refreshes.values())), "what it does", box=SIMPLE_HEAD)
    modes.title = "percent of peak by refresh mode" + ("" if file else f" ({len(short.addresses):,} reads)")
    for each, made in mappings(memory.organization).items():
        modes.add_row(each, *(f"{value:.1f}" for value in refreshes[each].values()), made.summary)
    title = f"LPDDR5-{memory.timing.data_rate_mtps}, {memory.controller.refresh} refresh: {what}, mapping {name}"
    tables = [_figures(result, title), channels, modes]
    return document, tables, curves, memory.peak_gb_per_s, f"LPDDR5, {memory.controller.refresh} refresh"


def _hb(file, pattern, requests, banks, plot, seed):
    from hw.params import HbParams
    from sw_stack.provenance import provenance
    from sw_stack.workloads import hb_study as study
    from sw_stack.workloads.dram_trace import read_trace

    params = HbParams()
    trace = read_trace(file, params.capacity_bytes) if file else None
    result = study.summary(study.run_pattern(params, pattern, requests, seed, trace), params, banks)
    streams = study.stream_table(params, HB_TABLE_BYTES)
    curves = {}
    if plot:
        curves = {
            f"random reads of {columns * params.column_bytes:,} bytes": study.latency_curve(params, 4000, seed, columns)
            for columns in (1, 16, 512)
        }
    document = {
        "provenance": provenance(
            {"device": "hb", "pattern": pattern, "requests": result["requests"], "banks": banks} | asdict(params), seed
        ),
        "result": result,
        "streaming_by_row_and_temperature": [
            {name: value for name, value in asdict(s).items() if name != "counts"} for s in streams
        ],
    }
    rows = Table(
        *("up to C", "row bytes", "GB/s", "closed form", "difference %", "% of peak", "rows %", "refresh %"),
        title=f"one bank streaming {HB_TABLE_BYTES >> 20} MiB: simulated beside closed form",
        box=SIMPLE_HEAD,
    )
    for s in streams:
        rows.add_row(
            f"{s.temperature_c:g}",
            f"{s.row_bytes:,}",
            f"{s.gb_per_s:.3f}",
            f"{s.closed_form_gb_per_s:.3f}",
            f"{100 * (s.gb_per_s / s.closed_form_gb_per_s - 1):+.3f}",
            f"{s.percent_of_peak:.2f}",
            f"{100 * s.row_loss:.2f}",
            f"{100 * s.refresh_loss:.2f}",
        )
    what = f"{file}" if file else f"{pattern}, {requests:,} columns of {params.column_bytes} bytes"
    tables = [_figures(result, f"HB DRAM, one bank: {what}"), rows]
    return document, tables, curves, params.peak_gb_per_s, "HB DRAM, one bank"


def _layouts(device: str, seed: int) -> dict[str, list]:
    """The layout tables of a device: HB per number of PEs and of active experts, LPDDR5 for eight experts."""
    from sw_stack.compiler.layout_study import hb_layouts, lpddr_layouts

    if device == "lpddr5":
        return {"8 random experts of Qwen3-30B-A3B, both slices, from LPDDR5": lpddr_layouts(8, seed)}
    return {
        f"{active} random resident experts of Qwen3-30B-A3B, MSB slices, from {pes} HB banks": hb_layouts(
            pes, active, seed=seed
        )
        for pes in (16, 32)
        for active in (1, 8, 40)
    }


def _layout_table(title: str, measured: list) -> Table:
    table = Table("layout", "max / mean", "% of peak", "note", title=title, box=SIMPLE_HEAD)
    for m in measured:
        table.add_row(m.layout, f"{m.max_over_mean:.3f}", f"{m.percent_of_peak:.1f}", m.note)
    return table


def _figures(result: dict, title: str) -> Table:
    """Bandwidth, latency, rows and counts, a line each."""
    table = Table("figure", "value", "unit", title=title, box=SIMPLE_HEAD)
    table.add_row("bandwidth", f"{result['gb_per_s']:.2f}", f"GB/s of {result['peak_gb_per_s']:g}")
    table.add_row("share of peak", f"{result['percent_of_peak']:.1f}", "%")
    if "banks" in result:
        table.add_row(f"{result['banks']} such banks", f"{result['all_banks_gb_per_s']:.1f}", "GB/s")
    table.add_row("time", f"{result['time_us']:.2f}", "us")
    for name, value in result["latency_ns"].items():
        table.add_row(f"latency {name}", f"{value:.1f}", "ns")
    for kind in ("hit", "miss", "conflict"):
        if f"row_{kind}_percent" in result:
            table.add_row(f"row {kind} rate", f"{result[f'row_{kind}_percent']:.2f}", "%")
    for name, value in result["counts"].items():
        if value:
            table.add_row(
                name.partition("_")[2].replace("_", " "), f"{value:,}", "bytes" if name.endswith("bytes") else "actions"
            )
    return table
