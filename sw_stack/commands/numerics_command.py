"""``elmoe3d numerics``: what the 4-bit draft loses, beside the other ways to get one."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from rich.box import SIMPLE_HEAD
from rich.table import Table
from typer import Option

from hw.errors import UserError
from hw.files import write_atomic
from sw_stack.reports import terminal

MOST_TENSOR_VALUES = 1 << 18
"""Values sampled from a given tensor, so that any file takes seconds."""


def command(
    weights: Annotated[Path | None, Option(help="Also measure a tensor of this safetensors file.")] = None,
    tensor: Annotated[str | None, Option(help="Its name; default: the largest fitting matrix.")] = None,
    base_bits: Annotated[int, Option(help="Bits of the matryoshka base, 1 to 4.")] = 2,
    repeats: Annotated[int, Option(help="Repetitions behind the standard errors.")] = 6,
    seed: Annotated[int, Option(help="Seed of every generator.")] = 0,
    json_path: Annotated[Path | None, Option("--json", help="Write all numbers here, with provenance.")] = None,
    out: Annotated[Path, Option(help="Folder of the figure.")] = Path("build/numerics"),
    quiet: Annotated[bool, Option("--quiet", help="Write the files, print nothing.")] = False,
) -> None:
    """Weight and output error of every 4-bit draft scheme.

    Why LSB augmentation, and when not. Measures the INT8 target, the augmented slice (ours), plain truncation,
    rounding on the shared scale, separate 4-bit copies and matryoshka
    residual planes, on Gaussian, heavy-tailed and sparse matrices and on a
    tensor of yours, with unbiased and biased activations. Prints storage,
    errors and a conclusion computed from them; draws a figure (PNG, SVG).
    docs/numerics.md explains the columns.
    """
    from sw_stack.quantizers.conclusion import conclude
    from sw_stack.quantizers.figure import draw
    from sw_stack.quantizers.matrices import read_tensor
    from sw_stack.quantizers.study import StudyConfig, run_study
    from sw_stack.reports.style import render

    if tensor is not None and weights is None:
        raise UserError("--tensor must come with --weights FILE.safetensors")
    config = StudyConfig(seed=seed, repeats=repeats, base_bits=base_bits)
    study = run_study(config, read_tensor(weights, tensor, MOST_TENSOR_VALUES) if weights else None)
    conclusion = conclude(study)
    figure = draw(study)
    written = [write_atomic(out / f"numerics.{kind}", render(figure, kind)) for kind in ("png", "svg")]
    if json_path:
        document = _document(study, conclusion, weights)
        written.append(write_atomic(json_path, json.dumps(document, indent=1, allow_nan=False) + "\n"))
    if not quiet:
        _print(study, conclusion, written)


def _document(study, conclusion: list[str], weights: Path | None) -> dict:
    """The JSON form: see docs/numerics.md for the fields."""
    from sw_stack.provenance import provenance

    config = {key: value for key, value in asdict(study.config).items() if key != "seed"}
    if study.tensor:
        config["weights"] = {
            "file": str(weights),
            "tensor": study.tensor.name,
            "shape": list(study.tensor.shape),
            "rows_sampled": len(study.tensor.values),
        }

    def record(estimate) -> dict:
        return {
            "sqnr_db": estimate.mean,
            "standard_error_db": estimate.standard_error,
            "relative_rms": 10 ** (-estimate.mean / 20),
        }

    def gain(estimate) -> dict:
        return {"gain_db": estimate.mean, "standard_error_db": estimate.standard_error}

    return {
        "format": "elmoe3d-numerics",
        "format_version": 1,
        "provenance": provenance(config, study.config.seed),
        "storage": [
            {
                "scheme": s.name,
                "summary": s.summary,
                "read_bits_per_weight": s.read_bits,
                "extra_bits_per_weight": s.extra_bits,
                "formula": s.formula,
            }
            for s in study.schemes
        ],
        "weight_error": [
            {"matrix": matrix, "scheme": scheme, **record(e)} for (matrix, scheme), e in study.weight_db.items()
        ],
        "output_error": [
            {"matrix": matrix, "activations": kind, "scheme": scheme, **record(e)}
            for (matrix, kind, scheme), e in study.output_db.items()
        ],
        "gain_by_degrees_of_freedom": [{"dof": dof, **gain(e)} for dof, e in study.dof_gain_db.items()],
        "gain_by_zero_fraction": [{"zero_fraction": x, **gain(e)} for x, e in study.zero_gain_db.items()],
        "isolated_zero_coarse_steps": study.isolated_zero,
        "activation_mean_over_rms": study.activation_bias,
        "pipeline_deviation_relative_rms": study.pipeline_deviation,
        "conclusion": conclusion,
    }


def _print(study, conclusion: list[str], written: list[Path]) -> None:
    console = terminal.console()
    config = study.config
    console.print(
        f"[bold]4-bit drafts beside an INT8 target[/bold], groups of 32 inputs. Generated matrices "
        f"{config.outputs} x {config.inputs}, {config.tokens} tokens; mean ± standard error of {config.repeats} "
        f"repetitions, seed {config.seed}."
    )
    if study.tensor:
        shape = " x ".join(map(str, study.tensor.shape))
        console.print(
            f"given: {study.tensor.name} ({shape}), {len(study.tensor.values)} rows sampled evenly", markup=False
        )
    console.print(_storage_table(study))
    console.print(_error_table(study))
    console.print(
        f"Bit-exact FP32 chains differ from these float64 products by at most {study.pipeline_deviation:.1e} of the "
        f"output RMS.\n"
    )
    console.print("[bold]Why LSB augmentation, and when not[/bold]")
    for paragraph in conclusion:
        console.print(f"- {paragraph}", markup=False, highlight=False)
    console.print(f"\nwritten: {', '.join(map(str, written))}", markup=False, highlight=False, soft_wrap=True)


def _storage_table(study) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title="Storage, bits per weight with scales", title_justify="left")
    table.add_column("scheme", no_wrap=True)
    table.add_column("the draft multiplies with")
    table.add_column("read", justify="right")
    table.add_column("extra", justify="right")
    for s in study.schemes:
        table.add_row(s.name, s.summary, f"{s.read_bits:g}", f"{s.extra_bits:g}")
    return table


def _error_table(study) -> Table:
    def cell(estimate) -> str:
        spread = f"±{estimate.standard_error:.2f}" if estimate.standard_error else "     "
        return f"{estimate.mean:.2f}{spread} {100 * 10 ** (-estimate.mean / 20):5.1f}%"

    table = Table(
        box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title="SQNR in dB, relative RMS error in %", title_justify="left"
    )
    table.add_column("matrix, scheme", no_wrap=True)
    for column in ("weights", "outputs, unbiased", "outputs, biased"):
        table.add_column(column, justify="right", no_wrap=True)
    for matrix in study.matrices:
        table.add_row(f"[bold]{matrix}[/bold]")
        for s in study.schemes:
            outputs = (cell(study.output_db[matrix, kind, s.name]) for kind in ("unbiased", "biased"))
            table.add_row(f" {s.name}", cell(study.weight_db[matrix, s.name]), *outputs)
        table.add_section()
    return table
