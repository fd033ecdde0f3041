"""``make waves``: waves of a whole expert on the PE's RTL, and a picture drawn from the wave file.

    python -m verification.waves [--out build/waves]

Open the VCD with GTKWave or Surfer: ``gtkwave build/waves/pe.gtkw`` shows what starts and ends; everything else is in
the tree under ``top``, one module per component, one cycle a nanosecond. ``make cocotb BLOCK=pe CHIP=tiny WAVES=1``
records the exported Verilog as FST instead.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hw.files import write_atomic
from hw.isa import HbCommand
from hw.isa.encoding import Unit
from hw.params import chip
from rtl_gen.simulate import simulate_pe
from verification.programs.expert_cases import random_case

_UNITS = [unit for unit in Unit if unit is not Unit.SEQUENCER]
_SIGNALS = ("clk", "trace__start", "trace__done", "pins__command", "stream_in__valid", "stream_in__ready")
_SIGNALS += ("aggregate_in__valid", "aggregate_in__ready", "aggregate_out__valid")
ZOOM = 420
"""Cycles of the lower panel."""


@dataclass
class Shown:
    """What the picture needs: (start, done) of each unit's commands, cycles of HB commands and of link words."""

    cycles: int = 0
    commands: dict[Unit, list[tuple[int, int]]] = field(default_factory=dict)
    pins: dict[HbCommand, list[int]] = field(default_factory=dict)
    words: dict[str, list[int]] = field(default_factory=dict)


def samples(path: Path) -> Iterator[dict[str, int]]:
    """Values of `_SIGNALS` of the design's top just before every rising clock edge."""
    names: dict[str, str] = {}
    values = dict.fromkeys(_SIGNALS, 0)
    scope: list[str] = []
    with path.open() as file:
        for line in file:
            word = line.split()
            if not word:
                continue
            if word[0] == "$scope":
                scope.append(word[2])
            elif word[0] == "$upscope":
                scope.pop()
            elif word[0] == "$var":
                if scope == ["bench", "top"] and word[4] in _SIGNALS:
                    names[word[3]] = word[4]
            elif line[0] in "01" and line[1:].rstrip() in names:
                name = names[line[1:].rstrip()]
                if name == "clk" and line[0] == "1":
                    yield dict(values)
                values[name] = int(line[0])
            elif line[0] == "b" and word[1] in names:
                values[names[word[1]]] = int(word[0][1:], 2)


def read(path: Path) -> Shown:
    """The wave file as `Shown`."""
    shown = Shown(commands={unit: [] for unit in _UNITS}, pins={}, words={"stream": [], "gather": [], "store": []})
    started: dict[Unit, list[int]] = {unit: [] for unit in _UNITS}
    for cycle, now in enumerate(samples(path)):
        for unit in _UNITS:
            if now["trace__done"] >> unit & 1:
                shown.commands[unit].append((started[unit].pop(0), cycle))
            if now["trace__start"] >> unit & 1:
                started[unit].append(cycle)
        if now["pins__command"]:
            shown.pins.setdefault(HbCommand(now["pins__command"]), []).append(cycle)
        for link, port in (("stream", "stream_in"), ("gather", "aggregate_in")):
            if now[f"{port}__valid"] and now[f"{port}__ready"]:
                shown.words[link].append(cycle)
        if now["aggregate_out__valid"]:
            shown.words["store"].append(cycle)
        shown.cycles = cycle
    return shown


def _panel(axes: Axes, shown: Shown, begin: int, end: int) -> None:
    """Commands of every unit from start to done, with link words and HB commands below them."""
    colours = ["#4c72b0", "#9db7dd"]
    for row, unit in enumerate(_UNITS):
        for i, (start, done) in enumerate(shown.commands[unit]):
            if start < end and done >= begin:
                axes.broken_barh([(start, done - start + 1)], (row - 0.32, 0.5), facecolor=colours[i % 2])
        words = shown.words.get(unit.name.lower(), [])
        axes.vlines([cycle + 0.5 for cycle in words], row + 0.2, row + 0.38, colors="#55a868", linewidth=0.6)
    marks = {HbCommand.ACTIVATE: "#c44e52", HbCommand.READ: "#55a868", HbCommand.WRITE: "#dd8452"}
    marks |= {HbCommand.PRECHARGE: "#8c8c8c", HbCommand.REFRESH: "black"}
    for command, colour in marks.items():
        cycles = [cycle + 0.5 for cycle in shown.pins.get(command, [])]
        axes.vlines(cycles, len(_UNITS) - 0.3, len(_UNITS) + 0.3, colors=colour, linewidth=0.8, label=command.name)
    axes.set_yticks(range(len(_UNITS) + 1), [*(unit.name for unit in _UNITS), "HB pins"])
    axes.set_ylim(len(_UNITS) + 0.6, -0.6)
    axes.set_xlim(begin, end)
    axes.spines[["top", "right"]].set_visible(False)


def draw(shown: Shown, title: str) -> str:
    """The picture as SVG text: the whole run, and its busiest part enlarged."""
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    whole, part = figure.subplots(2, 1)
    begin = shown.cycles // 2
    _panel(whole, shown, 0, shown.cycles)
    _panel(part, shown, begin, begin + ZOOM)
    whole.axvspan(begin, begin + ZOOM, color="#f0e6c8", zorder=-1)
    whole.set_title(title, fontsize=10, loc="left")
    whole.legend(ncols=5, fontsize=7, loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    part.set_xlabel("cycle (bars: start to done of a command; green ticks: link words)")
    text = StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "elmoe3d", "font.size": 8}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def main() -> None:
    """Simulate, read the waves back, draw."""
    parser = argparse.ArgumentParser(prog="make waves", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/waves"), help="folder (default: %(default)s)")
    options = parser.parse_args()
    case = random_case(5, outputs=32, hidden=32, experts=1, k=1, tokens=2)
    program = case.program(chip("tiny"), "full", "hb")
    waves = options.out / "pe.vcd"
    result = simulate_pe(program, waves=waves)
    shown = read(waves)
    ended = sum(len(commands) for commands in shown.commands.values())
    assert ended == len(result.done), f"the wave file shows {ended} commands, the run had {len(result.done)}"
    title = f"An expert of 32 x 32, two tokens, full precision, MSB slices resident: {result.cycles:,} cycles on tiny"
    figure = write_atomic(options.out / "pe_waves.svg", draw(shown, title))
    print(f"{waves} ({waves.stat().st_size / 1e6:.1f} MB, {ended} commands in {result.cycles:,} cycles)")
    print(f"{figure}, drawn from it")
    print(f"open it with: gtkwave {waves.with_suffix('.gtkw')} (or any VCD viewer on {waves})")


if __name__ == "__main__":
    main()
