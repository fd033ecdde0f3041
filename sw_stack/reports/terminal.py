"""The terminal as all commands use it."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

PIPE_WIDTH = 120  # columns when the output is a file or a pipe: wide enough that no table is cut


def console(quiet: bool = False) -> Console:
    """A console on standard output: the terminal's own width, or `PIPE_WIDTH` where there is none."""
    out = Console(quiet=quiet, highlight=False)
    if not out.is_terminal:
        out.width = PIPE_WIDTH
    return out


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table in the house style."""
    return Table(*columns, title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
