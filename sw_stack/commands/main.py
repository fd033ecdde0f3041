"""The ``elmoe3d`` command: collects the subcommands and turns user errors into one line."""

import importlib
import os
import sys

import typer
from typer.core import TyperGroup

from hw.errors import UserError

# Subcommand -> module; each module offers `command`, a function with a docstring worth reading as help.
# A module is imported only when its subcommand runs (or all of them for --help), so start-up stays short.
COMMANDS = (
    "compare",
    "compile",
    "doctor",
    "dram",
    "fpga",
    "generate",
    "list",
    "listing",
    "numerics",
    "report",
    "run",
    "sim",
    "study",
    "synth",
    "trace",
    "verilog",
)


INTERRUPTED = 130
"""Exit status behind Ctrl-C, as shells have it; Typer makes this status of it by itself."""
CONTINUE = {
    "compare": "finished cells are kept: the same command continues",
    "fpga": "finished phases of a build are kept: the same command continues",
    "study": "finished measurements are kept: the same command continues",
}
"""Subcommand -> what is there behind an interruption."""


def _version(show: bool) -> None:
    if show:
        from importlib.metadata import version

        typer.echo(f"elmoe3d {version('elmoe3d')}")
        raise typer.Exit


def _about(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """The MoE accelerator with hybrid-bonded DRAM: numerics, RTL, cycle models and reports."""


class _InOrder(TyperGroup):
    """Lists commands as they stand in `COMMANDS`."""

    def list_commands(self, ctx: typer.Context) -> list[str]:
        return [name for name in COMMANDS if name in self.commands]


def _build_app(argv: list[str]) -> typer.Typer:
    app = typer.Typer(
        cls=_InOrder,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_about)
    wanted = [argv[0]] if argv and argv[0] in COMMANDS else COMMANDS
    for name in wanted:
        module = importlib.import_module(f"sw_stack.commands.{name}_command")
        target = module.command
        if isinstance(target, typer.Typer):
            app.add_typer(target, name=name)
        else:
            app.command(name)(target)
    return app


def main(argv: list[str] | None = None) -> None:
    """Entry point; exit status 0 done, 2 a mistake in what was given, 130 interrupted."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        status = _build_app(argv)(args=argv, prog_name="elmoe3d", standalone_mode=False)
    except UserError as error:
        _fail(str(error), 2)
    except BrokenPipeError:  # the reader (head, less) went away: not an error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        _fail(f"{error.filename or 'file'}: {error.strerror or error}", 2)
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        context = getattr(error, "ctx", None)  # Click's usage errors: one line and where to read more
        path = context.command_path if context else "elmoe3d"
        _fail(f"{error.format_message()} (see {path} --help)", 2)
    if status == INTERRUPTED:
        _fail(f"interrupted; {CONTINUE.get(argv[0], 'nothing was left half written')}", INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, status: int) -> None:
    print("elmoe3d: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(status)
