"""What a fault is: a small text patch on one source file, and the tests that must notice it.

A catalogue is a module ``verification/faults/<area>_faults.py`` with two tuples, found by name::

    TARGETS = (
        Target("hb_controller", "hw/memory/hb_controller.py", tests=("verification/blocks/test_hb_controller.py",)),
    )
    FAULTS = (
        Fault(
            name="hb-refresh-never-forced",
            file="hw/memory/hb_controller.py",
            before="postponed == p.max_postponed",
            after="postponed == p.max_postponed + 1",
            reason="A ninth postponed refresh breaks tREFI x 9; data would decay.",
        ),
    )

`FAULTS` are hand-written mistakes that an engineer could make; each must make a test fail. `TARGETS` are the
files that `make mutate` also changes at random (operators, constants, widths; see `mutator`). A fault whose
``tests`` is empty uses those of the target with the same file. Tests are pytest paths or node ids, cheapest
first: they run in this order and the first failure ends the run.
"""

from dataclasses import dataclass
from pathlib import Path


class FaultError(Exception):
    """A fault that does not fit the sources: the catalogue is stale, which is an error and never a kill."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One text patch.

    name    unique, kebab-case
    file    path relative to the repository
    before  text that occurs exactly once in ``file``; take in a neighbouring line where it would not
    after   what replaces it
    reason  the wrong behaviour, in a sentence
    tests   pytest paths or node ids that must fail; empty: the tests of the `Target` of ``file``
    """

    name: str
    file: str
    before: str
    after: str
    reason: str
    tests: tuple[str, ...] = ()

    def patched(self, root: Path) -> str:
        """The file's text with the fault; FaultError where ``before`` is absent, ambiguous or unchanged."""
        path = root / self.file
        if not path.is_file():
            raise FaultError(f"fault {self.name}: no file {self.file}")
        text = path.read_text()
        found = text.count(self.before)
        if found != 1:
            raise FaultError(f"fault {self.name}: its text occurs {found} times in {self.file}, not once")
        if self.before == self.after:
            raise FaultError(f"fault {self.name}: changes nothing")
        return text.replace(self.before, self.after)


@dataclass(frozen=True)
class Target:
    """A source file mutated at random: ``name`` is the block (``make mutate BLOCK=name``).

    on_demand  mutated at random only where the block is named: a run over all blocks tries its named faults alone.
               For blocks whose tests take minutes per mutant, compiled models above all.
    """

    name: str
    file: str
    tests: tuple[str, ...]
    on_demand: bool = False
