"""``elmoe3d listing``: what is in a PE program, readable."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option, echo

from sw_stack.compiler.program import fingerprint, read_program


def command(
    program: Annotated[Path, Argument(help="A .prog file.")],
    text: Annotated[bool, Option("--text", help="Only assembler text, which assembles to the same bits.")] = False,
) -> None:
    """List a program: instructions, descriptors, records, data.

    Instructions come with their words, data with their sizes.
    """
    from sw_stack.compiler.disassembler import disassemble, listing

    loaded = read_program(program)
    if text:
        echo(disassemble(loaded.instructions, loaded.kernels), nl=False)
        return
    chip = loaded.chip
    echo(f"; {program}: chip {chip.name}, sizes {fingerprint(chip)}, expected digest {loaded.expected or 'none'}")
    echo(f"; {len(loaded.instructions)} of {chip.pe.instructions} instructions")
    echo(listing(loaded.instructions, loaded.kernels), nl=False)
    for address, descriptor in enumerate(loaded.descriptors):
        echo(f"; DM[{address}] = {descriptor & 0x7FFFFFFF:#x}" + ("" if descriptor >> 31 else ", not valid"))
    echo("; dispatch words: " + " ".join(f"{word:x}" for word in loaded.dispatch))
    echo(f"; HB image: {len(loaded.hb)} columns of {chip.hb.column_bytes} bytes")
    for name, chunks in (("stream", loaded.stream), ("aggregation", loaded.aggregation)):
        words = sum(len(chunk.words) for chunk in chunks)
        echo(f"; {name} link: {words} words in {len(chunks)} chunks")
