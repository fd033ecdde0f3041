"""``elmoe3d trace``: statistics, conversion, generation and capture of routing traces."""

import json
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from hw.errors import UserError
from hw.files import write_atomic

command = typer.Typer(no_args_is_help=True, help="Routing traces: statistics, import, generation, capture.")

JsonPath = Annotated[Path | None, Option("--json", help="Write all numbers here, with provenance.")]
OutFolder = Annotated[Path, Option("--out", help="Folder of the figure.")]
Seed = Annotated[int, Option(help="Seed of everything random.")]
Quiet = Annotated[bool, Option("--quiet", help="Write the files, print nothing.")]


def _report(trace, title: str, json_path: Path | None, out: Path, seed: int, quiet: bool, config: dict) -> None:
    """Statistics of ``trace`` to the terminal, a figure and JSON."""
    from sw_stack.provenance import provenance
    from sw_stack.reports.terminal import console
    from sw_stack.workloads.trace_report import document, draw, profile_lines, statistics_table, summary
    from sw_stack.workloads.trace_statistics import compute

    found = compute(trace, seed)
    written = [write_atomic(out / f"{trace.model}.svg", draw(trace, found))]
    if json_path:
        content = {
            "format": "elmoe3d-trace-statistics",
            "format_version": 1,
            "provenance": provenance(config, seed),
            **document(trace, found),
        }
        written.append(write_atomic(json_path, json.dumps(content, indent=1, allow_nan=False) + "\n"))
    terminal = console(quiet)
    terminal.print(summary(trace), markup=False)
    terminal.print(statistics_table(found, title))
    for line in profile_lines(trace, found):
        terminal.print(line, markup=False)
    terminal.print(f"written: {', '.join(map(str, written))}", markup=False, soft_wrap=True)


@command.command("stats")
def stats(
    trace: Annotated[Path | None, Option(help="Trace file; default: the shipped GPT-OSS-20B excerpt.")] = None,
    seed: Seed = 0,
    json_path: JsonPath = None,
    out: OutFolder = Path("build/trace"),
    quiet: Quiet = False,
) -> None:
    """How uneven and how local routing is, beside published models."""
    from sw_stack.workloads.trace import SHIPPED
    from sw_stack.workloads.trace_import import open_trace

    path = trace or SHIPPED
    _report(open_trace(path), "Routing statistics", json_path, out, seed, quiet, {"trace": path.name})


@command.command("import")
def import_(
    source: Annotated[Path, Argument(help="The public trace's .npz; its .meta.json lies beside it.")],
    to: Annotated[Path, Option(help="Trace file to write.")] = Path("build/trace/imported.npz"),
    domain_by: Annotated[str, Option(help="Label sequences by: dataset or category.")] = "dataset",
    sequences: Annotated[int, Option(help="Keep so many evenly spaced sequences; 0 = all.")] = 0,
    longest: Annotated[int, Option(help="With --sequences: tokens of each.")] = 150,
    compact: Annotated[bool, Option("--compact", help="A fifth smaller, ten times slower to write.")] = False,
) -> None:
    """Convert the public GPT-OSS-20B trace.

    It is AmanPriyanshu/GPT-OSS-MoE-ExpertFingerprinting.
    """
    from sw_stack.reports.terminal import console
    from sw_stack.workloads.trace import write_trace
    from sw_stack.workloads.trace_import import excerpt, import_public_trace
    from sw_stack.workloads.trace_report import summary

    if domain_by not in ("dataset", "category"):
        raise UserError(f"--domain-by must be dataset or category, not {domain_by!r}")
    trace = import_public_trace(source, domain_by)
    if sequences:
        trace = excerpt(trace, sequences, longest)
    path = write_trace(to, trace, compact)
    console().print(f"{summary(trace)}\nwritten: {path}, {path.stat().st_size:,} bytes", markup=False, soft_wrap=True)


@command.command("generate")
def generate_(
    model: Annotated[str, Option(help="Preset: qwen3-30b-a3b, glm-4.7-flash, deepseek-v2-lite, gpt-oss-20b.")],
    sequences: Annotated[int, Option(help="Number of sequences.")] = 64,
    tokens: Annotated[int | None, Option(help="Tokens of each; default: the preset's.")] = None,
    to: Annotated[Path | None, Option(help="Trace file to write; default: build/trace/MODEL-generated.npz.")] = None,
    seed: Seed = 0,
    json_path: JsonPath = None,
    out: OutFolder = Path("build/trace"),
    quiet: Quiet = False,
) -> None:
    """Make a synthetic trace with a model's published statistics."""
    from sw_stack.reports.terminal import console
    from sw_stack.workloads.generator import generate
    from sw_stack.workloads.generator_presets import preset
    from sw_stack.workloads.trace import write_trace

    chosen = preset(model)
    trace = generate(chosen.params, sequences, chosen.sequence_tokens if tokens is None else tokens, seed)
    path = write_trace(to or out / f"{model}-generated.npz", trace)
    config = {"model": model, "sequences": sequences, "tokens": trace.tokens // sequences}
    title = f"Generated for {model}; parameters {chosen.kind}: {chosen.source}"
    _report(trace, title, json_path, out, seed, quiet, config)
    console(quiet).print(f"written: {path}, {path.stat().st_size:,} bytes", markup=False, soft_wrap=True)


@command.command("cache")
def cache(
    trace: Annotated[Path | None, Option(help="Trace file; default: the shipped GPT-OSS-20B excerpt.")] = None,
    fraction: Annotated[
        list[float] | None, Option(help="Capacity, as a share of a layer's MSB slices. Repeat.")
    ] = None,
    batch: Annotated[list[int] | None, Option(help="Sequences at a time. Repeat for more.")] = None,
    phase_steps: Annotated[int, Option(help="Tokens of a draft phase (hotness).")] = 5,
    draft_weight: Annotated[
        float, Option(help="Draft steps per pass that adaptive allocation weighs; 0 = none.")
    ] = 0.0,
    json_path: JsonPath = None,
    out: OutFolder = Path("build/trace"),
    quiet: Quiet = False,
) -> None:
    """Hit rates of the expert-cache policies on a trace.

    Beside them the Che approximation of LRU.

    Capacity is bytes per layer: the share of MSB slices that fit. Whole
    experts and the adaptive allocation get the same bytes. "MSB hits": reads
    of an expert that found its MSB slice; "bytes": share of all weight bytes
    that did not come from external memory.
    """
    from sw_stack.elastic.cache_study import RUNS, draw, study
    from sw_stack.elastic.slices import LSB_BITS_PER_WEIGHT, MSB_BITS_PER_WEIGHT, SliceSizes
    from sw_stack.provenance import provenance
    from sw_stack.reports.terminal import console
    from sw_stack.workloads.trace import SHIPPED
    from sw_stack.workloads.trace_import import open_trace
    from sw_stack.workloads.trace_report import summary

    path = trace or SHIPPED
    fractions, batches = tuple(fraction or (0.125, 0.25, 0.5, 0.75)), tuple(batch or (1, 4, 16))
    if not all(0 <= f <= 2 for f in fractions):
        raise UserError(f"--fraction must be 0 to 2 (2 holds both slices of every expert), not {fractions}")
    routing = open_trace(path)
    sizes = SliceSizes(int(2 * MSB_BITS_PER_WEIGHT), int(2 * LSB_BITS_PER_WEIGHT))  # only the ratio matters here
    points = study(routing, sizes, fractions, batches, phase_steps=phase_steps, draft_weight=draft_weight)
    written = [write_atomic(out / f"{routing.model}-cache.svg", draw(points, routing.model))]
    if json_path:
        config = {"trace": path.name, "phase_steps": phase_steps, "draft_weight": draft_weight}
        rows = [
            {
                "batch": point.batch,
                "fraction": point.fraction,
                "policy": run.policy,
                "allocation": run.allocation,
                "msb_hit_rate": run.msb_hit_rate,
                "byte_hit_rate": run.byte_hit_rate,
            }
            for point in points
            for run in point.runs
        ]
        che = [
            {"batch": p.batch, "fraction": p.fraction, "pooled": p.che_pooled}
            | ({"within": p.che_within} if p.batch == 1 else {})
            for p in points
        ]
        content = {
            "format": "elmoe3d-cache-study",
            "format_version": 1,
            "provenance": provenance(config, 0),
            "runs": rows,
            "che_lru": che,
        }
        written.append(write_atomic(json_path, json.dumps(content, indent=1, allow_nan=False) + "\n"))
    terminal = console(quiet)
    terminal.print(summary(routing), markup=False)
    for size in batches:
        of_batch = [point for point in points if point.batch == size]
        terminal.print(_cache_table(RUNS, of_batch, size))
    terminal.print(f"written: {', '.join(map(str, written))}", markup=False, soft_wrap=True)


def _cache_table(runs, points, batch: int):
    """One batch: policies by rows, capacities by columns, MSB hits and bytes in each cell."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=f"batch {batch}: MSB hits / bytes", title_justify="left")
    table.add_column("policy, allocation", no_wrap=True)
    for point in points:
        table.add_column(f"{point.fraction:.1%} of MSB slices", justify="right")
    for i, (policy, allocation) in enumerate(runs):
        cells = (f"{p.runs[i].msb_hit_rate:.3f} / {p.runs[i].byte_hit_rate:.3f}" for p in points)
        table.add_row(f"{policy}, {allocation}", *cells)
    table.add_row("LRU by Che, pooled use", *(f"{p.che_pooled:.3f}" for p in points))
    if batch == 1:
        table.add_row("LRU by Che, within sequences", *(f"{p.che_within:.3f}" for p in points))
    return table


@command.command("capture")
def capture(
    model: Annotated[
        Path | None,
        Argument(help="Folder with config.json, safetensors and tokenizer.json; default: the shipped model."),
    ] = None,
    text: Annotated[
        list[Path] | None,
        Option(help="Text file; its name labels the domain. Repeat for more; default: held-out texts."),
    ] = None,
    engine: Annotated[
        str, Option(help="runtime (bit-exact, this project's) or transformers (any MoE model).")
    ] = "runtime",
    sequence: Annotated[int, Option(help="Tokens per sequence.")] = 256,
    sequences: Annotated[int, Option(help="Most sequences per text.")] = 8,
    licence: Annotated[str, Option(help="Licence that the trace is under.")] = "unknown",
    to: Annotated[Path, Option(help="Trace file to write.")] = Path("build/trace/captured.npz"),
    seed: Seed = 0,
    json_path: JsonPath = None,
    out: OutFolder = Path("build/trace"),
    quiet: Quiet = False,
) -> None:
    """Run texts through a model and keep the experts of each token.

    Says what memory and time it needs before it starts. The transformers
    engine wants torch and transformers (pip install -e .[verify]) and takes
    any of its MoE models through hooks on their routers.
    """
    from sw_stack.commands.generate_command import DEFAULT_MODEL
    from sw_stack.commands.trace_capture import capture_folder
    from sw_stack.elastic.study.texts import HELD_OUT
    from sw_stack.workloads.trace import write_trace

    model, text = model or DEFAULT_MODEL, text or sorted(HELD_OUT.glob("*.txt"))
    trace = capture_folder(model, text, engine, sequence, sequences, licence, quiet)
    write_trace(to, trace)
    config = {"model": model.name, "text": [path.name for path in text], "engine": engine, "sequence": sequence}
    _report(trace, f"Captured; trace in {to}", json_path, out, seed, quiet, config)
