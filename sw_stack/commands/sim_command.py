"""``elmoe3d sim``: one model on one machine, timed and priced, and what bounds each phase."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from hw.errors import UserError, nearest
from hw.files import write_atomic
from sw_stack.reports import terminal

if TYPE_CHECKING:
    from sw_stack.comparison.cell import CellKey, CellResult
    from sw_stack.comparison.evaluate import Settings
    from sw_stack.comparison.phases import PhaseRecorder
    from sw_stack.machines.machine import Machine
    from sw_stack.workloads.requests import Arrivals
    from sw_stack.workloads.serving import Server

EXPLAIN_ROUNDS = 4
PHASE_NAMES = {"PREFILL": "prefill", "DECODE": "decode", "DRAFT": "draft", "VERIFY": "verify"}


def command(
    model: Annotated[
        str, Option(help="A model of `elmoe3d list models`, or a folder with a Hugging Face config.json.")
    ] = "qwen3-30b-a3b",
    machine: Annotated[str, Option(help="A machine of `elmoe3d list machines`, or a TOML file.")] = "elmoe3d-8gb",
    batch: Annotated[int, Option(help="Sequences decoded together, 1 to 64.")] = 16,
    dataset: Annotated[str, Option(help="mt-bench, gsm8k, alpaca or humaneval.")] = "gsm8k",
    method: Annotated[str, Option(help="none, elastic, quant, slm, eagle; auto: none, and elastic if legal.")] = "auto",
    trace: Annotated[Path | None, Option(help="Routing trace of the model.", show_default="generated")] = None,
    acceptance: Annotated[
        float | None, Option(help="Acceptance per drafted token, 0 to 1.", show_default="best known")
    ] = None,
    rounds: Annotated[int, Option(help="Decoding rounds to simulate.")] = 16,
    tree: Annotated[str, Option(help="Token tree of drafting methods, depth x width.")] = "5x1",
    explain: Annotated[bool, Option("--explain", help="Say what bounds each phase against the roofline.")] = False,
    arrivals: Annotated[
        float | None, Option(help="Also serve requests that arrive at random, so many per second on average.")
    ] = None,
    requests: Annotated[int, Option(help="How many requests arrive (with --arrivals).")] = 32,
    timeline: Annotated[Path | None, Option(help="Write the last pass's timeline for ui.perfetto.dev here.")] = None,
    json_path: Annotated[Path | None, Option("--json", help="Write all numbers here, with provenance.")] = None,
    seed: Annotated[int, Option(help="Seed of routing and acceptance.")] = 0,
    quiet: Annotated[bool, Option("--quiet", help="Write the files, print nothing.")] = False,
) -> None:
    """Speed and energy of a model on a machine, DRAM timing included.

    Routing comes from the calibrated generator, acceptance of drafts from
    the measured or published function (docs/machines.md). --explain splits
    the time of each phase along its critical path, beside its roofline.
    """
    from sw_stack.comparison.cell import CellKey, Results, save
    from sw_stack.comparison.evaluate import Settings, architecture, routing
    from sw_stack.comparison.heat import die_sentence, evaluate_settled, heat_sentence, settled_machine
    from sw_stack.machines.machine_file import load_machine
    from sw_stack.provenance import provenance
    from sw_stack.workloads.datasets import dataset as known_dataset

    made = load_machine(machine)
    architecture(model)
    known_dataset(dataset)
    methods = _methods(method, made)
    where = str(trace) if trace else None
    settings = Settings(rounds=rounds, tree=_tree(tree), acceptance=acceptance, trace=where, seed=seed)
    routing(model, settings)
    out = terminal.console(quiet)
    cells: list[CellResult] = []
    for each in methods:
        cell = evaluate_settled(CellKey(model, dataset, batch, made.name, each), made, settings)
        if not cell.fits:
            raise UserError(f"model {model} {cell.reason}")
        cells.append(cell)
        out.print("; ".join(filter(None, (_line(cell), heat_sentence(cell)))))
    best = min(cells, key=lambda cell: cell.seconds_per_token)
    for table in _tables(cells, made.precision):
        out.print(table)
    out.print(f"{best.key.method}: {best.reason}" if len(cells) == 1 else _choice(cells, best))
    if sentence := die_sentence(made):
        out.print(sentence)
    notes: dict = {}
    if explain:
        notes["phases"] = {}
        for cell in cells:
            there = settled_machine(cell, made)
            recorder, server = _record(cell.key, there, settings)
            notes["phases"][cell.key.method] = _explain(out, cell.key.method, there, recorder)
            notes["phases"][cell.key.method] |= _metrics(out, server, recorder)
    if arrivals is not None:
        from sw_stack.workloads.requests import Arrivals

        notes["arrivals"] = _open_loop(out, [cell.key for cell in cells], made, settings, Arrivals(arrivals, requests))
    written = []
    if timeline:
        written.append(_timeline(timeline, best.key, settled_machine(best, made), settings))
    if json_path:
        config = {"model": model, "machine": machine, "batch": batch, "dataset": dataset, "method": method}
        config |= {"rounds": rounds, "tree": tree, "trace": where, "acceptance": acceptance}
        written.append(save(Results(provenance(config, seed), tuple(cells), json.loads(json.dumps(notes))), json_path))
    for path in written:
        out.print(f"wrote {path}")


def _methods(method: str, machine: Machine) -> list[str]:
    if method == "auto":
        return ["none", *(["elastic"] if "elastic" in machine.methods else [])]
    if method not in machine.methods:
        raise UserError(
            f"machine {machine.name} cannot draft with {method!r}; {nearest(method, ['auto', *machine.methods])}"
        )
    return [method]


def _tree(text: str):
    from sw_stack.elastic.tree import TreeShape

    depth, _, width = text.partition("x")
    if not (depth.isdigit() and (width or "1").isdigit()):
        raise UserError(f"--tree must be depth x width such as 2x4, not {text!r}")
    return TreeShape(int(depth), int(width or 1))


def _line(cell: CellResult) -> str:
    return (
        f"{cell.key.machine}, {cell.key.model}, batch {cell.key.batch}, {cell.key.method}: "
        f"{cell.tokens_per_second:,.1f} tokens/s"
    )


def _choice(cells: list[CellResult], best: CellResult) -> str:
    others = ", ".join(f"{c.key.method} {1e3 * c.seconds_per_token:.2f}" for c in cells if c is not best)
    return (
        f"faster: {best.key.method}, {1e3 * best.seconds_per_token:.2f} ms per token of the batch (others: {others} ms)"
    )


def _tables(cells: list[CellResult], precision: str) -> list:
    first = cells[0]
    workload = f"batch {first.key.batch}, {first.key.dataset}, {precision.upper()} weights"
    title = f"{first.key.model} on {first.key.machine}, {workload}"
    speed = terminal.table(
        *("drafting", "tokens/s", "+-", "ms / output token", "roofline ms", "mJ / token", "low - high", "tokens/J"),
        *("accepted", "tokens / round"),
        title=title,
    )
    for cell in cells:
        speed.add_row(
            cell.key.method,
            f"{cell.tokens_per_second:,.1f}",
            f"{100 * cell.seconds_error / cell.seconds_per_token:.1f} %",
            f"{1e3 * cell.seconds_per_output_token:.2f}",
            f"{1e3 * cell.roofline_seconds * cell.key.batch:.2f}",
            f"{1e-9 * cell.energy():.1f}",
            f"{1e-9 * cell.energy('low'):.1f} - {1e-9 * cell.energy('high'):.1f}",
            f"{cell.tokens_per_joule:,.2f}",
            "-" if cell.acceptance is None else f"{100 * cell.acceptance:.0f} %",
            f"{cell.accept_length:.2f}",
        )
    use = terminal.table(
        *("drafting", "MB / token", "share of the critical path", "utilisation", "hits", "experts / layer"),
        title="where bytes and time go",
    )
    for cell in cells:
        use.add_row(
            cell.key.method,
            ", ".join(f"{name} {value / 1e6:,.0f}" for name, value in cell.bytes_by.items()),
            _shares(cell.seconds_by),
            _shares(cell.utilisation),
            "-" if cell.cache_hit_rate is None else f"{100 * cell.cache_hit_rate:.0f} %",
            "-" if cell.unique_experts is None else f"{cell.unique_experts:.1f}",
        )
    return [speed, use]


def _shares(values: dict[str, float], least: float = 0.005) -> str:
    shown = sorted(((v, k) for k, v in values.items() if v >= least), reverse=True)
    return ", ".join(f"{name} {100 * value:.0f} %" for value, name in shown)


def _record(key: CellKey, machine: Machine, settings: Settings) -> tuple[PhaseRecorder, Server]:
    """A few rounds again, with every pass kept by phase."""
    from sw_stack.comparison.evaluate import server_of, serving_of
    from sw_stack.comparison.phases import PhaseRecorder

    few = replace(settings, rounds=min(settings.rounds, EXPLAIN_ROUNDS))
    server, recorder = server_of(key, machine, few, serving_of(key, machine, few), PhaseRecorder)
    for _ in server.run():
        pass
    return recorder, server


def _explain(out, method: str, machine: Machine, recorder: PhaseRecorder) -> dict:
    from sw_stack.comparison.phases import what_if

    table = terminal.table(
        *("phase", "passes", "ms / pass", "roofline ms", "bound by", "x", "critical path", "busy"),
        title=f"{method}: what bounds each phase",
    )
    document, sentences = {}, []
    for (kind, own), phase in recorder.phases.items():
        name = PHASE_NAMES[kind.name] if own else "draft model"
        ms, least = 1e3 * phase.seconds / phase.passes, 1e3 * phase.roofline_s / phase.passes
        shares = {resource: phase.critical_share(resource) for resource in phase.critical_ns}
        busy = {resource: ns / (1e9 * phase.seconds) for resource, ns in phase.busy_ns.items()}
        table.add_row(
            *(name, str(phase.passes), f"{ms:.3f}", f"{least:.3f}", phase.roofline_bound, f"{ms / least:.2f}"),
            *(_shares(shares), _shares(busy)),
        )
        document[name] = {
            "passes": phase.passes,
            "ms_per_pass": ms,
            "roofline_ms_per_pass": least,
            "roofline_bound": phase.roofline_bound,
            "critical_path_share": shares,
            "busy_share": busy,
        }
        bound = phase.bound
        sentences.append(
            f"{name}: {'as the roofline says, ' if bound == phase.roofline_bound else ''}{bound} bounds it "
            f"({100 * shares[bound]:.0f} % of the critical path); {ms / least:.2f} x the roofline of "
            f"{phase.roofline_bound}."
        )
        if own and not machine.is_gpu:
            changes = what_if(machine, recorder.timer.target, recorder.timer, phase.last)
            document[name]["change_if_resource_twice_as_fast"] = changes
            gains = {resource: -change for resource, change in changes.items() if change < -0.005}
            sentences[-1] += f" Twice as fast, it would gain: {_shares(gains) or 'nothing'}."
    out.print(table)
    for sentence in sentences:
        out.print(sentence)
    if not machine.is_gpu and recorder.timer.engine.mapping_ns:
        times = ", ".join(f"{name} {ns / 1e6:.3f} ms" for name, ns in recorder.timer.engine.mapping_ns.items())
        out.print(f"parallel mapping {recorder.timer.engine.mapping}; the first pass with LPDDR slices: {times}")
    return document


def _metrics(out, server: Server, recorder: PhaseRecorder) -> dict:
    """Distinct experts beside the uniform formula, and target efficiency."""
    from sw_stack.machines.engine.workload import PassKind
    from sw_stack.workloads.metrics import expected_unique, target_efficiency

    found: dict = {}
    config = recorder.timer.target
    kinds = [kind for kind, own in recorder.phases if own and kind in (PassKind.DECODE, PassKind.VERIFY)]
    if config.moe and kinds:
        one = recorder.phases[kinds[-1], True].last
        found["unique_experts"] = float((one.expert_tokens > 0).sum(axis=1).mean())
        found["unique_experts_uniform"] = expected_unique(config.experts, config.top_k, one.total_tokens)
        out.print(
            f"distinct experts per layer for {one.total_tokens} tokens: {found['unique_experts']:.1f}; "
            f"uniform routing, N(1-(1-k/N)^t): {found['unique_experts_uniform']:.1f}."
        )
    if server.shape.depth:
        found["target_efficiency"] = target_efficiency(server, recorder.timer)
        out.print(
            f"target efficiency T(B,1)/T(B,g): {found['target_efficiency']:.2f} with g = "
            f"{1 + server.shape.depth * server.shape.width} tokens per sequence."
        )
    return found


def _open_loop(out, keys: list[CellKey], machine: Machine, settings: Settings, arrivals: Arrivals) -> dict:
    from sw_stack.comparison.open_loop import PERCENTILES, serve

    ranks = " / ".join(f"{p}" for p in PERCENTILES)
    table = terminal.table(
        *("drafting", "requests", "seconds", "tokens/s", "mean batch", f"first token s, {ranks} %"),
        f"ms / later token, {ranks} %",
        title=f"requests arriving at {arrivals.per_second:g} per second, at most {keys[0].batch} at once",
    )
    document = {}
    for key in keys:
        run = serve(key, machine, settings, arrivals)
        first, later = run.first_token_s(), 1e3 * run.per_token_s()
        table.add_row(
            *(key.method, str(len(run.requests)), f"{run.seconds:.1f}", f"{run.tokens_per_s:.1f}"),
            *(f"{run.mean_batch:.1f}", " / ".join(f"{x:.2f}" for x in first), " / ".join(f"{x:.1f}" for x in later)),
        )
        document[key.method] = {
            "per_second": arrivals.per_second,
            "requests": len(run.requests),
            "seconds": run.seconds,
            "tokens_per_s": run.tokens_per_s,
            "mean_batch": run.mean_batch,
            "first_token_s_percentiles": dict(zip(map(str, PERCENTILES), first.tolist(), strict=True)),
            "ms_per_later_token_percentiles": dict(zip(map(str, PERCENTILES), later.tolist(), strict=True)),
        }
    out.print(table)
    return document


def _timeline(path: Path, key: CellKey, machine: Machine, settings: Settings) -> Path:
    from sw_stack.machines.engine.timeline import events, to_json

    if machine.is_gpu:
        raise UserError(f"--timeline must be given for a processor, not the GPU {machine.name}")
    recorder, _ = _record(key, machine, settings)
    parts = []
    for number, ((kind, own), phase) in enumerate(recorder.phases.items()):
        if own:
            result = recorder.timer.engine.run(phase.last)
            parts.append(events(result, f"{machine.name}: {PHASE_NAMES[kind.name]}", number))
    return write_atomic(path, to_json(parts))
