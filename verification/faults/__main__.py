"""``make mutate``: inject named faults and seeded random mutations, and show what the tests notice."""

import argparse
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from hw.errors import UserError
from verification.faults import catalogue
from verification.faults.fault import FaultError
from verification.faults.killing import Job, Killer, Verdict
from verification.faults.mutation import Mutation, sample

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Score:
    """Counts of one block, and its survivors as lines of text."""

    named: int = 0
    named_killed: int = 0
    mutations: int = 0
    killed: int = 0
    timeouts: int = 0
    explained: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Trial:
    """A job and where it came from: a named fault, or a random mutation."""

    block: str
    job: Job
    fault: str = ""
    mutation: Mutation | None = None


def _trials(killer: Killer, options: argparse.Namespace) -> list[Trial]:
    targets, faults = catalogue.load()
    chosen = catalogue.select(options.block, targets)
    names = {target.name for target in chosen}
    trials = []
    if not options.random_only:
        for fault in faults:
            block = catalogue.block_of(fault, targets)
            if options.block == "all" or block in names:
                tests = catalogue.tests_of(fault, targets)
                trials.append(Trial(block, killer.job(fault.file, fault.patched(killer.snapshot), tests), fault.name))
    if not options.named_only:
        for target in chosen:
            if target.on_demand and options.block == "all":
                continue
            source = (killer.snapshot / target.file).read_text()
            for mutation in sample(source, options.count, f"{target.name}:{options.seed}"):
                job = killer.job(target.file, mutation.apply(source), target.tests)
                trials.append(Trial(target.name, job, mutation=mutation))
    return trials


def _record(score: Score, trial: Trial, verdict: Verdict, explanations: dict) -> None:
    score.seconds += verdict.seconds
    if trial.mutation is None:
        score.named += 1
        score.named_killed += verdict.killed
        if not verdict.killed:
            score.unexplained.append(f"named fault {trial.fault} survived")
        return
    score.mutations += 1
    score.killed += verdict.killed
    score.timeouts += verdict.status == "timeout"
    if not verdict.killed:
        change = trial.mutation
        place = f"{trial.job.file}:{change.line} {change.kind} {change.name}"
        reason = explanations.get((trial.job.file, change.before, change.after))
        lines = f"{place}\n    - {change.before}\n    + {change.after}"
        if reason is None:
            score.unexplained.append(lines)
        else:
            score.explained.append(f"{lines}\n    {reason}")


def _show(console: Console, scores: dict[str, Score]) -> None:
    for title, attribute in (("explained", "explained"), ("NOT EXPLAINED", "unexplained")):
        lines = [line for score in scores.values() for line in getattr(score, attribute)]
        if lines:
            console.print(f"\nsurvivors, {title}: {len(lines)}", style="bold", highlight=False)
            for line in lines:
                console.print(line, markup=False, highlight=False)
    table = Table("block", "named", "random", "killed", "timeouts", "explained", "open", "CPU s")
    total = Score()
    for block, score in scores.items():
        _row(table, block, score)
        for name in ("named", "named_killed", "mutations", "killed", "timeouts", "seconds"):
            setattr(total, name, getattr(total, name) + getattr(score, name))
        total.explained += score.explained
        total.unexplained += score.unexplained
    table.add_section()
    _row(table, "all", total)
    console.print(table)


def _row(table: Table, block: str, score: Score) -> None:
    ratio = f"{score.killed} ({score.killed / score.mutations:.0%})" if score.mutations else "-"
    table.add_row(
        block,
        f"{score.named_killed} of {score.named}",
        str(score.mutations),
        ratio,
        str(score.timeouts),
        str(len(score.explained)),
        str(len(score.unexplained)),
        f"{score.seconds:.0f}",
    )


def run(options: argparse.Namespace) -> int:
    """Exit status: 0 all killed or explained, 1 otherwise."""
    console = Console() if sys.stdout.isatty() else Console(width=140)
    with Killer(ROOT, ROOT / "build" / "mutate", options.jobs) as killer:
        return _run(killer, options, console)


def _run(killer: Killer, options: argparse.Namespace, console: Console) -> int:
    trials = _trials(killer, options)
    explanations = catalogue.explanations()
    scores: dict[str, Score] = {trial.block: Score() for trial in trials}
    by_key: dict[str, list[Trial]] = {}
    for trial in trials:
        by_key.setdefault(trial.job.key, []).append(trial)
    start = time.monotonic()
    try:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task("", total=len(trials))

            def done(job: Job, verdict: Verdict) -> None:
                for trial in by_key.pop(job.key, []):
                    _record(scores[trial.block], trial, verdict, explanations)
                    progress.update(bar, advance=1, description=trial.block)
                    if not verdict.killed:
                        progress.print(f"survived: {trial.block} {trial.fault or trial.mutation.name}")

            killer.verdicts([trials[0].job for trials in by_key.values()], done)
    except KeyboardInterrupt:
        console.print("interrupted; results so far are kept, run again to continue")
    _show(console, scores)
    console.print(f"{len(trials) - sum(map(len, by_key.values()))} of {len(trials)} tried, ", end="")
    console.print(f"{time.monotonic() - start:.0f} s, seed {options.seed}")
    return 1 if by_key or any(score.unexplained for score in scores.values()) else 0


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(prog="make mutate", description=__doc__)
    parser.add_argument("--block", default="all", help="only this block (default: %(default)s)")
    parser.add_argument("--count", type=int, default=50, help="random mutations per block (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the random mutations (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--named-only", action="store_true", help="no random mutations")
    parser.add_argument("--random-only", action="store_true", help="no named faults")
    try:
        status = run(parser.parse_args())
    except (FaultError, UserError) as error:
        print(f"mutate: {error}", file=sys.stderr)
        status = 2
    sys.exit(status)


if __name__ == "__main__":
    main()
