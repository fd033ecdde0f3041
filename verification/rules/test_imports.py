"""Who may import whom, beyond what the import contracts of pyproject.toml see: what is loaded at run time."""

import subprocess
import sys

import pytest


def _loaded(code: str) -> set[str]:
    """Top-level packages in sys.modules after running ``code`` in a fresh interpreter."""
    report = "import sys; print(' '.join(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import sw_stack",
        "import cycle_model.numerics",
        "import hw.params, hw.isa, hw.timing, hw.errors, hw.files",
        "from sw_stack.commands.main import main\ntry: main(['numerics', '--help'])\nexcept SystemExit: pass",
    ],
)
def test_no_amaranth(code):
    """Models, parameters and model-only commands run without ever loading Amaranth."""
    loaded = _loaded(code)
    assert "amaranth" not in loaded
    assert "numpy" in loaded or "hw" in loaded or "sw_stack" in loaded


def test_shared_facts_load_nothing():
    """Parameters, encodings and timings load the standard library only."""
    outside = _loaded("import hw.params, hw.isa, hw.timing, hw.errors, hw.files") - set(sys.stdlib_module_names)
    assert {name for name in outside if not name.startswith("_")} <= {"hw", "elmoe3d"} | _loaded("pass")


def test_amaranth_is_found_where_it_is_used():
    """The check above can fail: loading RTL does load Amaranth."""
    assert "amaranth" in _loaded("import hw.array.pe_array")
