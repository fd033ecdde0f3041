"""The terminal as all commands use it."""

from rich.console import Console

PIPE_WIDTH = 120  # columns when the output is a file or a pipe: wide enough that no table is cut


def console(quiet: bool = False) -> Console:
    """A console on standard output: the terminal's own width, or `PIPE_WIDTH` where there is none."""
    out = Console(quiet=quiet, highlight=False)
    if not out.is_terminal:
        out.width = PIPE_WIDTH
    return out
