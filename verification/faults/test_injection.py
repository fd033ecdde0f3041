"""The fault engine itself: mutations are well formed, patches apply, a fault is killed and a harmless change is not."""

import ast
from pathlib import Path

import pytest

from verification.faults import catalogue
from verification.faults.fault import Fault, FaultError
from verification.faults.killing import Killer
from verification.faults.mutation import sample, sites

ROOT = Path(__file__).resolve().parents[2]
TARGETS, FAULTS = catalogue.load()


def test_every_named_fault_applies():
    """Each patch fits exactly one place, leaves a file that parses, and has tests that exist."""
    assert len(FAULTS) >= 25
    for fault in FAULTS:
        ast.parse(fault.patched(ROOT))
        for test in catalogue.tests_of(fault, TARGETS):
            assert (ROOT / test.split("::")[0]).is_file(), f"{fault.name}: {test}"


def test_explained_survivors_are_still_mutations():
    """An explanation whose line is gone, or which is no mutation any more, must go too."""
    for (file, before, after), reason in catalogue.explanations().items():
        changes = {(site.before, site.after) for site in sites((ROOT / file).read_text())}
        assert (before, after) in changes, f"{file}: {before}"
        assert len(reason) > 20


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_mutations_are_one_line_and_parse(target):
    """The sample of a target is reproducible, without repeats, and each mutant parses and differs in one line."""
    source = (ROOT / target.file).read_text()
    chosen = sample(source, 50, "seed")
    assert chosen == sample(source, 50, "seed")
    assert len(set(chosen)) == len(chosen) == min(50, len(sites(source)))
    for mutation in chosen:
        mutant = mutation.apply(source)
        ast.parse(mutant)
        pairs = list(zip(source.splitlines(), mutant.splitlines(), strict=True))
        assert [(a.strip(), b.strip()) for a, b in pairs if a != b] == [(mutation.before, mutation.after)]


def test_mutations_by_hand():
    """All changes of one line, written out: operators, constants, a width, a signedness; docstrings stay."""
    found = [site.after for site in sites('"""1 + 1."""\nx = Signal(signed(n)) + (a << 2)\n')]
    assert found == [
        "x = Signal(unsigned(n)) + (a << 2)",
        "x = Signal(signed(n - 1)) + (a << 2)",
        "x = Signal(signed(n)) - (a << 2)",
        "x = Signal(signed(n)) + (a >> 2)",
        "x = Signal(signed(n)) + (a << 1)",
        "x = Signal(signed(n)) + (a << 3)",
    ]


@pytest.mark.parametrize(("before", "message"), [("absent", "0 times"), ("m.d.sync", "times"), ("", "times")])
def test_a_fault_that_does_not_fit_is_an_error(before, message):
    """Absent, ambiguous and empty texts are refused."""
    fault = Fault(name="odd", file="hw/array/weight_feed.py", before=before, after="x", reason="")
    with pytest.raises(FaultError, match=message):
        fault.patched(ROOT)


def test_engine_kills_and_spares(tmp_path):
    """A wrong multiplier is killed, a comment is not, a broken file is; the second run only remembers."""
    tests = ("verification/blocks/test_slice_mac.py",)
    file = "hw/array/slice_mac.py"
    source = (ROOT / file).read_text()
    texts = {
        "killed": source.replace("self.operand * self.activation", "self.operand + self.activation"),
        "survived": source + "# no change\n",
        "broken": source + "(",
    }
    for run in (1, 2):
        with Killer(ROOT, tmp_path, jobs=1) as killer:
            jobs = {name: killer.job(file, text, tests) for name, text in texts.items()}
            started = []
            fork = killer._fork
            killer._fork = lambda slot, job, fork=fork, started=started: started.append(job) or fork(slot, job)
            verdicts = killer.verdicts(list(jobs.values()), lambda job, verdict: None)
        status = {name: verdicts[job.key].status for name, job in jobs.items()}
        assert status == {"killed": "killed", "survived": "survived", "broken": "killed"}
        assert len(started) == (4 if run == 1 else 0)
