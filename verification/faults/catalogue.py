"""All faults and targets, collected from the ``*_faults`` modules beside this one, and the explained survivors."""

import importlib
import pkgutil
import tomllib
from pathlib import Path

import verification.faults
from hw.errors import UserError, nearest
from verification.faults.fault import Fault, FaultError, Target

SURVIVORS = Path(__file__).with_name("survivors.toml")


def load() -> tuple[dict[str, Target], list[Fault]]:
    """Targets by name, and all faults with their tests filled in; FaultError where names clash."""
    targets: dict[str, Target] = {}
    faults: dict[str, Fault] = {}
    for module in pkgutil.iter_modules(verification.faults.__path__):
        if module.name.endswith("_faults"):
            loaded = importlib.import_module(f"verification.faults.{module.name}")
            for target in loaded.TARGETS:
                if target.name in targets:
                    raise FaultError(f"target {target.name} occurs twice")
                targets[target.name] = target
            for fault in loaded.FAULTS:
                if fault.name in faults:
                    raise FaultError(f"fault {fault.name} occurs twice")
                faults[fault.name] = fault
    return targets, list(faults.values())


def tests_of(fault: Fault, targets: dict[str, Target]) -> tuple[str, ...]:
    """The fault's own tests, else those of its file's target."""
    found = fault.tests or next((t.tests for t in targets.values() if t.file == fault.file), ())
    if not found:
        raise FaultError(f"fault {fault.name}: no tests, and no target has the file {fault.file}")
    return found


def block_of(fault: Fault, targets: dict[str, Target]) -> str:
    """Name of the target with the fault's file, else the file's stem."""
    return next((t.name for t in targets.values() if t.file == fault.file), Path(fault.file).stem)


def select(name: str, targets: dict[str, Target]) -> list[Target]:
    """The target called ``name``, or ``all``; UserError where it is unknown."""
    if name == "all":
        return list(targets.values())
    if name not in targets:
        raise UserError(f"unknown block {name!r}; {nearest(name, ['all', *targets])}")
    return [targets[name]]


def explanations() -> dict[tuple[str, str, str], str]:
    """(file, line before, line after) -> why no test can tell them apart."""
    entries = tomllib.loads(SURVIVORS.read_text()).get("survivor", [])
    return {(entry["file"], entry["before"], entry["after"]): entry["reason"] for entry in entries}
