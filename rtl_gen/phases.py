"""The steps of a build script one by one: progress as they go, and none done again for what it was done with before."""

import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from hw.errors import UserError
from hw.files import write_atomic

RECORD = "phases.json"
PROGRESS_SECONDS = 60
_NAMES = {"YOSYS": "synthesis", "NEXTPNR": "place and route", "PACK": "bitstream"}
_POLL_SECONDS = 0.5


def run_phases(
    folder: Path,
    script: str,
    files: Mapping[str, str],
    tools: Mapping[str, str],
    timeout: float,
    tell: Callable[[str], None],
) -> float:
    """Run the lines of ``script`` that begin with one of ``tools``, in ``folder``.

    A line is skipped where the record of the last build says that it ended well with the same command, the same tool
    and the same input, and what it wrote is still there.

    Parameters
    ----------
    folder : Path
        Holds ``files``; the record and what the tools write go there.
    script : str
        A shell script of Amaranth's build system.
    files : mapping
        Names and contents of all inputs.
    tools : mapping
        Environment variable of the script -> program.
    timeout : float
        Seconds for all lines together.
    tell : callable
        Gets a line when a phase begins, every minute, and when it ends.

    Returns
    -------
    float
        Seconds of all phases; for a skipped one those that it took when it ran.

    Raises
    ------
    UserError
        A line fails, with the tool's reason, or time is up.
    """
    record_file = folder / RECORD
    record = json.loads(record_file.read_text()) if record_file.exists() else {}
    key, total, deadline = "", 0.0, time.monotonic() + timeout
    for line in script.splitlines():
        found = re.match(r'"\$(\w+)" ', line)
        if not found or found[1] not in tools:
            continue
        name = next(phase for part, phase in _NAMES.items() if part in found[1])
        key = _key(key, line, files, Path(tools[found[1]]))
        kept = record.get(name)
        if kept and kept["key"] == key and all((folder / file).exists() for file in kept["files"]):
            tell(f"{name}: kept from an earlier build, {kept['seconds']:.0f} s, {kept['cpu_seconds']:.0f} s of a core")
        else:
            record.pop(name, None)
            before, cpu_before = _times(folder), _cpu_seconds()
            seconds = _run(folder, name, line, os.environ | tools, deadline, tell)
            written = sorted(file for file, at in _times(folder).items() if before.get(file) != at)
            cpu_seconds = _cpu_seconds() - cpu_before
            record[name] = {"key": key, "files": written, "seconds": seconds, "cpu_seconds": cpu_seconds}
            write_atomic(record_file, json.dumps(record, indent=1))
            tell(f"{name}: {seconds:.0f} s, {cpu_seconds:.0f} s of a core")
        total += record[name]["seconds"]
    return total


def _key(previous: str, line: str, files: Mapping[str, str], program: Path) -> str:
    """What a phase depends on: the phases before it, its command, its tool, the files that command or files name."""
    digest = hashlib.sha256(f"{previous}\n{line}\n{program} {program.stat().st_mtime_ns}\n".encode())
    reached, texts = set(), [line]
    while texts:
        words = set(re.findall(r"[\w.]+", texts.pop()))
        for name in sorted(words & files.keys() - reached):
            reached.add(name)
            digest.update(f"{name} {len(files[name])}\n{files[name]}".encode())
            if name.endswith(".ys"):
                texts.append(files[name])
    return digest.hexdigest()


def _cpu_seconds() -> float:
    """Of all ended tools: what a phase takes on a machine with nothing else to do."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.name != RECORD}


def _run(
    folder: Path, name: str, line: str, environment: Mapping[str, str], deadline: float, tell: Callable[[str], None]
) -> float:
    """Seconds that the line took."""
    begin = told = time.monotonic()
    tell(f"{name} ...")
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(
            ["sh", "-c", line], cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            while True:
                try:
                    process.wait(_POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    now = time.monotonic()
                if now > deadline:
                    raise UserError(f"{name} must end in time: {now - begin:.0f} s passed; {_last_line(folder)}")
                if now > told + PROGRESS_SECONDS:
                    told = now
                    tell(f"{name}: {now - begin:.0f} s; {_last_line(folder)}")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if process.returncode != 0:
        raise UserError(f"{name} failed: {_reason(folder)}")
    return time.monotonic() - begin


def _logs(folder: Path) -> list[Path]:
    """What tools wrote about their work, the newest last."""
    found = [path for path in folder.iterdir() if path.suffix in (".rpt", ".tim") or path.name == "output.txt"]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns)


def _last_line(folder: Path) -> str:
    lines = [line for path in _logs(folder) for line in path.read_text(errors="replace").splitlines()[-5:]]
    return next((line.removeprefix("Info:").strip() for line in reversed(lines) if line.strip()), "no output yet")


def _reason(folder: Path) -> str:
    """The first error that a tool wrote."""
    texts = [path.read_text(errors="replace") for path in reversed(_logs(folder))]
    found = [re.search(r"^ERROR: (.*)$", text, re.MULTILINE) for text in texts]
    return next((each[1].strip() for each in found if each), _last_line(folder))
