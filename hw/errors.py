"""The one exception for mistakes in what a user gave."""


class UserError(Exception):
    """A bad argument, preset, file or environment.

    The command line shows it as one line, without a traceback, and exits with status 2. Messages read
    "<Thing> must be <rule>, not <value!r>" and name the file, line or preset concerned.
    """


def nearest(name: str, known: list[str]) -> str:
    """Text listing ``known`` names, the closest match to ``name`` first ("did you mean ...")."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{hint}known: {', '.join(known)}"
