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
    """How uneven and how local routing is, beside published statistics of large models."""
    from sw_stack.workloads.trace import SHIPPED, read_trace

    path = trace or SHIPPED
    _report(read_trace(path), "Routing statistics", json_path, out, seed, quiet, {"trace": path.name})


@command.command("import")
def import_(
    source: Annotated[Path, Argument(help="The public trace's .npz; its .meta.json lies beside it.")],
    to: Annotated[Path, Option(help="Trace file to write.")] = Path("build/trace/imported.npz"),
    domain_by: Annotated[str, Option(help="Label sequences by: dataset or category.")] = "dataset",
    sequences: Annotated[int, Option(help="Keep so many evenly spaced sequences; 0 = all.")] = 0,
    longest: Annotated[int, Option(help="With --sequences: tokens of each.")] = 150,
    compact: Annotated[bool, Option("--compact", help="A fifth smaller, ten times slower to write.")] = False,
) -> None:
    """Convert the public GPT-OSS-20B trace (AmanPriyanshu/GPT-OSS-MoE-ExpertFingerprinting)."""
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
    """Make a synthetic trace with a model's statistics, and print them beside the published ones."""
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


@command.command("capture")
def capture(
    model: Annotated[Path, Argument(help="Folder with config.json, safetensors and tokenizer.json.")],
    text: Annotated[list[Path], Option(help="Text file; its name labels the domain. Repeat for more.")],
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
    """Run texts through a model and keep which experts every token used in every layer.

    Says what memory and time it needs before it starts. The transformers
    engine wants torch and transformers (pip install -e .[verify]) and takes
    any of its MoE models through hooks on their routers.
    """
    from sw_stack.commands.trace_capture import capture_folder
    from sw_stack.workloads.trace import write_trace

    trace = capture_folder(model, text, engine, sequence, sequences, licence, quiet)
    write_trace(to, trace)
    config = {"model": model.name, "text": [path.name for path in text], "engine": engine, "sequence": sequence}
    _report(trace, f"Captured; trace in {to}", json_path, out, seed, quiet, config)
