"""``elmoe3d sim``: figures, explanation, files, mistakes in one line, and no Amaranth."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from sw_stack.commands.main import main
from sw_stack.comparison.cell import load


def run(*arguments: object) -> None:
    """The command in this process."""
    with pytest.raises(SystemExit) as stop:
        main(["sim", *map(str, arguments)])
    assert stop.value.code == 0


def test_explanation_adds_up(tmp_path, capsys):
    """Every phase has its shares, which sum to 1, and is no faster than its roofline; the file reads back."""
    path, timeline = tmp_path / "sim.json", tmp_path / "timeline.json"
    run("--batch", 2, "--rounds", 2, "--tree", "2x1", "--explain", "--json", path, "--timeline", timeline)
    text = capsys.readouterr().out
    for words in ("tokens/s", "draft:", "verify:", "decode:", "parallel mapping", "target efficiency", str(path)):
        assert words in text, words
    results = load(path)
    assert [cell.key.method for cell in results.cells] == ["none", "elastic"]
    for cell in results.cells:
        assert cell.seconds_per_token >= cell.roofline_seconds
        assert sum(cell.seconds_by.values()) == pytest.approx(1, abs=1e-6)
        phases = results.notes["phases"][cell.key.method]
        named = [phases[name] for name in ("draft", "verify", "decode") if name in phases]
        assert named
        for phase in named:
            assert sum(phase["critical_path_share"].values()) == pytest.approx(1, abs=1e-6)
            assert phase["ms_per_pass"] >= phase["roofline_ms_per_pass"]
            assert max(phase["change_if_resource_twice_as_fast"].values()) < 0.01
    assert 0 < results.notes["phases"]["elastic"]["target_efficiency"] < 1
    assert any(event["ph"] == "X" for event in json.loads(timeline.read_text())["traceEvents"])


def test_the_same_seed_gives_the_same_figures(tmp_path):
    """No result depends on a cache or on what ran before."""
    paths = [tmp_path / "one.json", tmp_path / "two.json"]
    for path in paths:
        run("--batch", 1, "--rounds", 2, "--method", "none", "--quiet", "--json", path)
    one, two = (load(path).cells for path in paths)
    assert one == two


def test_a_gpu_is_a_roofline(capsys):
    """Memory, arithmetic and kernels; nothing of the engine."""
    run("--machine", "h100", "--batch", 1, "--rounds", 2, "--explain")
    text = capsys.readouterr().out
    assert "decode: as the roofline says, memory bounds it" in text
    assert "parallel mapping" not in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "qwen3-30b"), ["unknown model 'qwen3-30b'", "qwen3-30b-a3b"]),
        (("--machine", "elmo3d"), ["unknown machine 'elmo3d'", "elmoe3d-8gb"]),
        (("--dataset", "gsm"), ["unknown dataset 'gsm'", "gsm8k"]),
        (("--machine", "rtx4090"), ["does not fit rtx4090", "GB"]),
        (("--machine", "xpu", "--method", "elastic"), ["xpu cannot draft with 'elastic'", "none"]),
        (("--batch", 0), ["batch must be an integer from 1 to 64, not 0"]),
        (("--rounds", 0), ["rounds must be at least 1, not 0"]),
        (("--tree", "5y"), ["--tree must be depth x width", "'5y'"]),
        (("--machine", "h100", "--timeline", "x.json", "--rounds", 1, "--batch", 1), ["--timeline", "h100"]),
    ],
)
def test_mistakes_are_one_line(arguments, words, capsys):
    """Exit status 2, one line that says what is wrong and names what is near."""
    with pytest.raises(SystemExit) as stop:
        main(["sim", *map(str, arguments)])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("elmoe3d: ")
    for word in words:
        assert word in error


def test_sim_never_loads_amaranth():
    """Neither importing the command nor running it."""
    code = (
        "import sys\nfrom sw_stack.commands.main import main\n"
        "try: main(['sim', '--batch', '1', '--rounds', '1', '--method', 'none', '--quiet'])\n"
        "except SystemExit as stop: assert not stop.code\n"
        "assert 'amaranth' not in sys.modules and 'sw_stack.machines.engine.engine' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
