"""``elmoe3d fpga``: bitstreams for boards, and programs run on them."""

import dataclasses
import time
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from hw.errors import UserError
from hw.params import ChipParams
from hw.params import chip as chip_named
from sw_stack.reports.terminal import console, table

SIMULATED, NETLIST = "simulated", "netlist"
"""Names of ports that are no devices but the board's Verilog, or its netlist behind synthesis, in a simulator."""
SIMULATED_SECONDS = 120
"""Longest wait for an answer of theirs, which takes simulated time."""

command = typer.Typer(help="Build FPGA boards and run programs on them.", no_args_is_help=True)


@command.command("build")
def build_board(
    board: Annotated[str, typer.Option(help="A board (elmoe3d fpga boards).")] = "ulx3s",
    chip: Annotated[str | None, typer.Option(help="Sizes to build; the board's own unless given.")] = None,
    explore: Annotated[bool, typer.Option(help="Build growing arrays until one does not fit or close.")] = False,
    seed: Annotated[int, typer.Option(help="Of the placement.")] = 1,
) -> None:
    """Build a bitstream and print what it takes and how fast it is. Exit status 1 where the clock is not met.

    Phases that an earlier build did with the same input are not done again.
    """
    from rtl_gen.boards import board as board_named
    from rtl_gen.fpga import build, explored

    params = board_named(board)
    sizes = chip_named(chip or params.chip)
    totals = (f"{name} of {total:,}" for name, total in params.totals.items())
    rows = table("slice MACs", *totals, "Fmax MHz", "clock MHz", "closes", "slice MACs/s", "seconds", title=params.note)
    out = console()

    def tell(line: str) -> None:
        out.print(line, highlight=False, style="dim", soft_wrap=True)

    closes, end = True, ""
    try:
        for candidate in explored(sizes, params) if explore else [sizes]:
            built = build(params, candidate, seed, tell)
            rows.add_row(
                str(built.slice_macs),
                *(f"{built.used[name]:,}" for name in params.totals),
                f"{built.fmax_mhz:.1f}",
                f"{params.clock_mhz:g}",
                "yes" if built.closes else "no",
                f"{built.slice_macs_per_s / 1e9:.3f} G",
                f"{built.seconds:.0f}",
            )
            out.print(f"{built.bitstream} ({built.bitstream.stat().st_size:,} bytes)")
            closes = built.closes
            if not closes:
                break
    except UserError as error:
        if not rows.row_count:
            raise
        end = f"and no more: {error}"
    out.print(rows)
    if end:
        out.print(end, highlight=False, soft_wrap=True)
    if not closes:
        out.print(f"{candidate.name} on {board} does not meet the clock; another --seed may")
        if not explore:
            raise typer.Exit(1)


@command.command("handover")
def hand_over(
    chip: Annotated[str, typer.Option(help="Sizes to export.")] = "fpga-small",
    clock_mhz: Annotated[float, typer.Option(help="For the constraints template.")] = 100.0,
    memory: Annotated[str, typer.Option(help="A PE's bank: hb (on chip), or axi: a manager port for each PE.")] = "hb",
    out: Annotated[Path | None, typer.Option(help="Folder to write into (build/handover/CHIP[-axi]).")] = None,
) -> None:
    """Export the machine behind AXI ports for vendor tools: Verilog, file list, scripts, constraints, C header."""
    from rtl_gen.handover import write_handover

    written = write_handover(dataclasses.replace(chip_named(chip), memory=memory), clock_mhz, out)
    modules = [path for path in written if path.parent.name == "modules"]
    for path in written:
        if path not in modules:
            typer.echo(f"{path} ({path.stat().st_size:,} bytes)")
    typer.echo(f"{modules[0].parent} ({len(modules)} modules, one file each)")


@command.command("resources")
def count_resources(
    chip: Annotated[str, typer.Option(help="Sizes of a PE.")] = "fpga-small",
    pes: Annotated[list[int], typer.Option(help="Numbers of PEs; can be given several times.")] = (1, 4, 16),
) -> None:
    """Map the machine behind AXI for UltraScale+ (Yosys synth_xilinx, a PE once) and print what it takes."""
    from rtl_gen.resources import FAMILY, KINDS, resources

    rows = table("", *KINDS, title=f"{chip}, synth_xilinx -family {FAMILY}, mapped, not placed")
    for name, counts in resources(chip_named(chip), list(pes)).items():
        rows.add_row(name, *(f"{counts[kind]:,}" for kind in KINDS))
    console().print(rows)


@command.command("boards")
def list_boards() -> None:
    """Boards that can be built."""
    from rtl_gen.boards import board, boards

    rows = table("board", "what", "clock MHz", "baud", "chip")
    for name in boards():
        params = board(name)
        rows.add_row(name, params.note, f"{params.clock_mhz:g}", f"{params.baud:,}", params.chip)
    console().print(rows)


@command.command("run")
def run_program(
    program: Annotated[Path, typer.Argument(help="A .prog file.")],
    port: Annotated[str, typer.Option(help="Serial port; simulated: the board's Verilog; netlist: behind synthesis.")],
    baud: Annotated[int, typer.Option(help="Of the serial port.")] = 1_000_000,
    pe: Annotated[int, typer.Option(help="PE of the board.")] = 0,
    seconds: Annotated[float, typer.Option(help="Longest wait for the program to end.")] = 60.0,
) -> None:
    """Run a program on a board and compare bits, cycles and counters with the models.

    The digest covers what a board can show: HB columns of the image and those refilled, words sent, events, HOST
    requests. Exit status 1 where anything differs, or the PE stopped with an error.
    """
    from cycle_model.pe.exact import exact
    from cycle_model.pe.functional import functional
    from sw_stack.compiler.program import read_program
    from sw_stack.host.board import RemoteBoard, visible
    from sw_stack.host.link import RESPONSE_SECONDS, HostLink

    loaded = read_program(program)
    values, times = functional(loaded), exact(loaded)
    begin = time.monotonic()
    with closing(_open(port, baud, loaded.chip)) as opened:
        link = HostLink(opened, port, SIMULATED_SECONDS if port in (SIMULATED, NETLIST) else RESPONSE_SECONDS)
        board = RemoteBoard(link, loaded.chip, pe)
        found = board.run(loaded, values.state.memories.get("HB", ()), seconds)
    digests = ["-" if found.error else each.digest(loaded.chip)[:16] for each in (found.state, visible(values.state))]
    rows = table("", "board", "model", "")
    differs = False
    for name, on_board, of_model in (
        ("digest", digests[0], digests[1]),
        ("cycles", f"{found.cycles:,}", f"{times.cycles:,}"),
        ("error", str(found.error or "-"), str(times.error or "-")),
        *((name, f"{found.counters[name]:,}", f"{value:,}") for name, value in times.counters.items() if value),
    ):
        differs |= on_board != of_model
        rows.add_row(name, on_board, of_model, "equal" if on_board == of_model else "[red]differs[/red]")
    out = console()
    out.print(rows)
    unequal = [name for name, value in times.counters.items() if value != found.counters[name]]
    out.print(
        f"{len(times.counters)} counters compared, {len(unequal)} differ; "
        f"{time.monotonic() - begin:.1f} s with loading and reading back"
    )
    if differs or unequal or found.error:
        raise typer.Exit(1)


def _open(port: str, baud: int, chip: ChipParams):
    if port in (SIMULATED, NETLIST):
        from rtl_gen.simulated_board import SimulatedPort, build

        return SimulatedPort(build(chip, netlist=port == NETLIST))
    from sw_stack.host.link import open_port

    return open_port(port, baud)
