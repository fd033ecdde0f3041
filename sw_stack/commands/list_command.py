"""``elmoe3d list``: the names that other commands take."""

from collections.abc import Callable

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from hw.errors import UserError, nearest
from hw.params import CHIPS
from sw_stack.reports.terminal import console, table


def _chips() -> Table:
    rows = table("chip", "PEs", "rows x columns x depth", "slice MACs / PE", "dots / FP32 unit", "chains", "note")
    for chip in CHIPS.values():
        a = chip.array
        size = f"{a.rows} x {a.columns} x {a.depth}"
        rows.add_row(
            chip.name,
            str(chip.pes),
            size,
            f"{a.slice_macs:,}",
            str(a.dots_per_fp32),
            str(a.chains),
            chip.note,
        )
    return rows


def _blocks() -> Table:
    from rtl_gen.blocks import BLOCKS

    rows = table("block", "what it is")
    for name, block in BLOCKS.items():
        rows.add_row(name, block.summary)
    return rows


def _models() -> Table:
    from sw_stack.models.catalogue import models

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("model", "layers (MoE)", "hidden", "experts", "expert + shared", "heads", "B", "active", "values"):
        table.add_column(title, no_wrap=True)
    for entry in models().values():
        moe, attention = entry.dimensions["moe"], entry.dimensions["attention"]
        shared = moe["shared_intermediate_total"]
        table.add_row(
            entry.name,
            f"{entry.dimensions['num_hidden_layers']} ({moe['moe_layers']})",
            str(entry.dimensions["hidden_size"]),
            f"{moe['top_k']} of {moe['num_experts']}",
            f"{moe['expert_intermediate']}" + (f" + {shared}" if shared else ""),
            f"{attention['type']} {attention['num_heads']}",
            f"{entry.params['total'] / 1e9:.2f}",
            f"{entry.params['active_incl_both_embeddings'] / 1e9:.2f}",
            entry.source["exactness"].split()[0].strip(","),
        )
    return table


def _workloads() -> Group:
    from sw_stack.workloads.datasets import DATASETS, EAGLE_LENGTHS
    from sw_stack.workloads.generator_presets import PRESETS

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("trace generator (--model)", "experts", "MoE layers", "tokens", "kind", "parameters"):
        table.add_column(title)
    for name, preset in PRESETS.items():
        params = preset.params
        experts = f"{params.top_k} of {params.num_experts}"
        table.add_row(name, experts, str(params.layers), str(preset.sequence_tokens), preset.kind, preset.source)
    sets = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in (
        "data set (--dataset)",
        "prompt + output tokens",
        "what",
        "published tokens per round of EAGLE heads",
    ):
        sets.add_column(title)
    for name, data in DATASETS.items():
        lengths = [f"{m} {length.tokens.value:g}" for (m, d), length in EAGLE_LENGTHS.items() if d == name]
        sets.add_row(name, f"{data.prompt_tokens} + {data.output_tokens}", data.note, ", ".join(lengths))
    return Group(table, sets)


def _machines() -> Group:
    from sw_stack.machines.tables import GPU_COLUMNS, PROCESSOR_COLUMNS, gpu_rows, processor_rows

    processors, gpus = table(*PROCESSOR_COLUMNS), table(*GPU_COLUMNS)
    for row in processor_rows():
        processors.add_row(*row)
    for row in gpu_rows():
        gpus.add_row(*row)
    return Group(
        processors,
        gpus,
        "GB/s: 1e9 bytes per second, at peak unless said otherwise. A PE: 16,384 slice MACs (4 x 8 bit; a full\n"
        "product takes two) at 1 GHz. GPU peaks are dense. Drafts: quant, slm, eagle or none; elmoe3d-* also elastic.\n"
        "Sources of every number: docs/machines.md, docs/energy.md. Your own: a TOML file that inherits one of these.",
    )


def _metrics() -> Table:
    from sw_stack.reports.metrics import METRICS

    rows = table("metric", "unit", "meaning")
    for name, (unit, meaning) in METRICS.items():
        rows.add_row(name, unit, meaning)
    return rows


CATALOGUES: dict[str, Callable[[], Table | Group]] = {
    "chips": _chips,
    "blocks": _blocks,
    "models": _models,
    "machines": _machines,
    "workloads": _workloads,
    "metrics": _metrics,
}


def command(
    what: str = typer.Argument("all", help="chips, blocks, models, machines, workloads, metrics, or all"),
) -> None:
    """List presets by name, and what the reported metrics mean.

    Presets: chips (--chip), blocks (--block), models, machines (--machine), workloads.
    """
    if what != "all" and what not in CATALOGUES:
        raise UserError(f"unknown catalogue {what!r}; {nearest(what, [*CATALOGUES, 'all'])}")
    out = console()
    for name in CATALOGUES if what == "all" else [what]:
        out.print(CATALOGUES[name]())
