"""``elmoe3d compile``: assembler text, or experts of a model, to a PE program."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option, echo

from hw.errors import UserError
from hw.isa.program import PeProgram
from hw.params import ChipParams
from hw.params import chip as chip_named
from sw_stack.compiler.program import write_program


def command(
    source: Annotated[Path, Argument(help="A model's folder (config.json, safetensors), or an assembler file (.s).")],
    chip: Annotated[str, Option(help="Chip to compile for.")] = "tiny",
    out: Annotated[Path | None, Option(help="The program; build/programs/NAME.prog unless given.")] = None,
    registers: Annotated[str, Option(help="Of a .s file: r1,r2,... of its one record.")] = "",
    layer: Annotated[int, Option(help="Of a model: the layer.")] = 0,
    experts: Annotated[str, Option(help="Of a model: expert numbers.")] = "0,1",
    mode: Annotated[str, Option(help="full, draft or mxfp4.")] = "full",
    tier: Annotated[str, Option(help="Where the MSB slices are: hb, stream or mixed.")] = "hb",
    tokens: Annotated[int, Option(help="Tokens; each uses all the experts.")] = 2,
    pes: Annotated[int, Option(help="PEs that share the outputs.")] = 3,
    pe: Annotated[int, Option(help="Which of them this program is for.")] = 0,
    seed: Annotated[int, Option(help="Seed of the tokens.")] = 0,
) -> None:
    """Make a PE program from a model's experts or from assembler.

    `elmoe3d run` executes it at every level, `elmoe3d listing` shows it. From a model: one PE's share of some
    experts' feed-forward networks and their combination; what the other PEs send is part of the program. From a .s
    file: the first kernel, dispatched once.
    """
    sizes = chip_named(chip)
    if source.suffix == ".s":
        program, name = _assembled(source, sizes, _numbers("registers", registers)), source.stem
    else:
        program = _experts(source, sizes, _numbers("experts", experts), layer, mode, tier, tokens, (pe, pes), seed)
        name = f"{source.name}-{chip}-{mode}-{tier}"
    path = write_program(program, out or Path("build") / "programs" / f"{name}.prog")
    words = {"HB": len(program.hb)}
    for link in ("stream", "aggregation"):
        words[f"{link} link"] = sum(len(chunk.words) for chunk in getattr(program, link))
    data = ", ".join(f"{count:,} words of {where}" for where, count in words.items() if count) or "no data"
    echo(f"{path}: {len(program.instructions)} of {sizes.pe.instructions} instructions, {data}")


def _numbers(option: str, text: str) -> list[int]:
    try:
        return [int(part, 0) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UserError(f"--{option} must be numbers with commas, not {text!r}") from None


def _assembled(source: Path, chip: ChipParams, registers: list[int]) -> PeProgram:
    from hw.isa.encoding import record_header
    from sw_stack.compiler.assembler import assemble_file

    assembly = assemble_file(source)
    entry = min(assembly.kernels.values(), default=0)
    dispatch = [record_header(entry, len(registers)), *(value & 0xFFFFFFFF for value in registers)]
    return PeProgram(chip, assembly.instructions, dispatch=dispatch, kernels=assembly.kernels)


def _experts(
    source: Path,
    chip: ChipParams,
    numbers: list[int],
    layer: int,
    mode: str,
    tier: str,
    tokens: int,
    place: tuple[int, int],
    seed: int,
) -> PeProgram:
    from sw_stack.compiler.expert_program import Share
    from sw_stack.compiler.model_experts import model_expert_program
    from sw_stack.models.checkpoint import open_checkpoint

    pe, pes = place
    if not 0 <= pe < pes or not numbers or tokens < 1:
        raise UserError(f"--pe must be below --pes with experts and tokens, not {pe} of {pes}, {numbers}, {tokens}")
    return model_expert_program(
        chip,
        open_checkpoint(source),
        numbers,
        layer=layer,
        mode=mode,
        tier=tier,
        tokens=tokens,
        share=Share(pe, pes),
        seed=seed,
    )
