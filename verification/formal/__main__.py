"""``make formal``: decide every property and print a line each; exit status 1 where one is not as expected."""

import argparse
import multiprocessing
import sys
import time

from rich.console import Console
from rich.table import Table

from verification.formal.catalogue import PROPERTIES, by_name
from verification.formal.property import Answer, Outcome


def _decide(name: str) -> tuple[str, Outcome, float]:
    return name, *by_name(name).run()


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(prog="make formal", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="property", help="only these (default: all)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    options = parser.parse_args()
    known = [prop.name for prop in PROPERTIES]
    for name in options.names:
        if name not in known:
            parser.error(f"unknown property {name!r}; known: {', '.join(known)}")
    names = options.names or known

    console = Console() if sys.stdout.isatty() else Console(width=140)
    results = {}
    start = time.monotonic()
    with multiprocessing.Pool(options.jobs) as pool:
        for name, outcome, seconds in pool.imap_unordered(_decide, names, chunksize=1):
            results[name] = outcome, seconds
            print(f"{len(results)} of {len(names)}: {name} {outcome.answer.value}, {seconds:.1f} s", flush=True)

    table = Table("property", "claim", "method", "result", "s", "reached in step")
    wrong = 0
    for name in names:
        prop, (outcome, seconds) = by_name(name), results[name]
        wrong += outcome.answer is not prop.expect
        result = outcome.answer.value if outcome.answer is prop.expect else f"[red]{outcome.answer.value}[/red]"
        covers = outcome.detail.removeprefix("reached: ") if outcome.answer is Answer.PROVED else ""
        table.add_row(name, prop.statement, prop.method, result, f"{seconds:.1f}", covers)
    console.print(table)
    for name in names:
        outcome, _ = results[name]
        if outcome.answer is not by_name(name).expect:
            console.print(f"{name}: {outcome.answer.value}: {outcome.detail}", markup=False)
    proved = sum(results[name][0].answer is Answer.PROVED for name in names)
    refuted = sum(results[name][0].answer is Answer.REFUTED for name in names)
    console.print(f"{proved} proved, {refuted} refuted, {wrong} not as expected, {time.monotonic() - start:.0f} s")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
