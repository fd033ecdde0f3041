"""``elmoe3d numerics``: files, provenance, given tensors of every type, and one line for every mistake."""

from __future__ import annotations

import json
import xml.etree.ElementTree
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from hw.errors import UserError
from sw_stack.commands.main import main
from sw_stack.quantizers.matrices import read_tensor


def run(*arguments: object) -> None:
    """The command in this process, with few repetitions."""
    with pytest.raises(SystemExit) as stop:
        main(["numerics", "--repeats", "2", *map(str, arguments)])
    assert stop.value.code == 0


def fail(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    """The one line that a mistake prints; exit status 2."""
    with pytest.raises(SystemExit) as stop:
        main(["numerics", *map(str, arguments)])
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A file with matrices of several types, shapes and values."""
    rng = np.random.default_rng(0)
    gaussian = rng.standard_normal((48, 256)).astype(np.float32)
    bad = gaussian.copy()
    bad[47, 3] = np.inf
    tensors = {
        "big": gaussian,
        "half": gaussian[:8].astype(np.float16),
        "bf16": gaussian[:8].astype(ml_dtypes.bfloat16),
        "vector": gaussian[0],
        "odd": gaussian[:4, :100].copy(),
        "integers": np.ones((4, 64), np.int32),
        "broken": bad[:48, :128].copy(),
        "zero": np.zeros((4, 64), np.float32),
        "huge": np.full((4, 64), 1e7, np.float32),
    }
    path = tmp_path / "model.safetensors"
    save_file(tensors, path)
    return path


def test_everything_is_written_and_printed(tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture) -> None:
    """Tables, conclusion, PNG, SVG and JSON; the JSON's numbers are the printed ones; a rerun gives the same bytes."""
    out, result = tmp_path / "figures", tmp_path / "result.json"
    run("--weights", checkpoint, "--out", out, "--json", result, "--seed", 3)
    printed = capsys.readouterr().out
    assert (out / "numerics.png").read_bytes().startswith(b"\x89PNG")
    xml.etree.ElementTree.fromstring((out / "numerics.svg").read_text())
    document = json.loads(result.read_text())
    assert document["provenance"]["seed"] == 3
    assert document["provenance"]["config"]["weights"]["tensor"] == "big"
    assert {"version", "command", "config_sha256"} <= set(document["provenance"])
    matrices = {"gaussian", "laplace", "student-t 3", "student-t 1.5", "sparse 90%", "given"}
    assert {entry["matrix"] for entry in document["weight_error"]} == matrices
    assert len(document["weight_error"]) == 6 * 9
    assert len(document["output_error"]) == 6 * 9 * 2
    for entry in document["weight_error"]:
        assert f"{entry['sqnr_db']:.2f}" in printed
        assert entry["relative_rms"] ** -2 == pytest.approx(10 ** (entry["sqnr_db"] / 10))  # a power ratio in dB
    flat = " ".join(printed.split())
    assert all(" ".join(paragraph.split()) in flat for paragraph in document["conclusion"])

    before = result.read_bytes(), (out / "numerics.svg").read_bytes()
    run("--weights", checkpoint, "--out", out, "--json", result, "--seed", 3, "--quiet")
    assert capsys.readouterr().out == ""
    assert before == (result.read_bytes(), (out / "numerics.svg").read_bytes())


@pytest.mark.parametrize("name", ["half", "bf16"])
def test_sixteen_bit_tensors_are_read_exactly(checkpoint: Path, name: str) -> None:
    """FP16 and BF16 equal ml-dtypes' and NumPy's own conversions of the same values."""
    stored = np.random.default_rng(0).standard_normal((48, 256)).astype(np.float32)[:8]
    expected = stored.astype({"half": np.float16, "bf16": ml_dtypes.bfloat16}[name]).astype(np.float32)
    np.testing.assert_array_equal(read_tensor(checkpoint, name, 1 << 18).values, expected)


def test_large_tensors_are_sampled_by_evenly_spaced_rows(checkpoint: Path) -> None:
    """Room for 3 rows of 48: the first, one from the middle, the last."""
    sample = read_tensor(checkpoint, "big", 3 * 256)
    whole = np.random.default_rng(0).standard_normal((48, 256)).astype(np.float32)
    assert sample.shape == (48, 256)
    np.testing.assert_array_equal(sample.values, whole[[0, 23, 47]])


@pytest.mark.parametrize(
    ("name", "needle"),
    [
        ("bigg", "no tensor 'bigg'; did you mean big?"),
        ("vector", "tensor 'vector' must be a matrix [outputs, inputs], not of shape [256]"),
        ("odd", "tensor 'odd' must be divisible into groups of 32 inputs, not of shape [4, 100]"),
        ("integers", "tensor 'integers' must be of type F64, F32, F16, BF16, not I32"),
        ("broken", "tensor 'broken' must be finite"),
        ("zero", "tensor 'zero' must hold a non-zero weight"),
        ("huge", "tensor 'huge' must stay below 8321040"),
    ],
)
def test_unusable_tensors_are_one_line(checkpoint: Path, capsys: pytest.CaptureFixture, name: str, needle: str) -> None:
    """File, tensor and rule in one line, exit status 2, nothing on standard output."""
    line = fail(capsys, "--weights", checkpoint, "--tensor", name)
    assert str(checkpoint) in line
    assert needle in line


def test_broken_files_are_one_line(tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture) -> None:
    """Missing, truncated, foreign, a folder, and a file without a matrix; nothing is written."""
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(checkpoint.read_bytes()[:-100])
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(b"PK\x03\x04 not this")
    flat = tmp_path / "flat.safetensors"
    save_file({"v": np.ones(32, np.float32)}, flat)
    missing = tmp_path / "none.safetensors"
    for path, needle in (
        (missing, "no such file"),
        (cut, "not a whole safetensors file"),
        (foreign, "not a whole safetensors file"),
        (tmp_path, "not a readable safetensors file"),
        (flat, "no 2-D floating-point tensor whose inputs are a multiple of 32"),
    ):
        line = fail(capsys, "--weights", path, "--out", tmp_path / "out")
        assert str(path) in line
        assert needle in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "needle"),
    [
        (("--tensor", "x"), "--tensor must come with --weights"),
        (("--base-bits", "9"), "base bits must be 1 to 4, not 9"),
        (("--repeats", "1"), "repeats must be 2 to 1000"),
        (("--seed", "-4"), "seed must be 0 or more, not -4"),
        (("--seed", "many"), "valid integer"),
    ],
)
def test_wrong_options_are_one_line(capsys: pytest.CaptureFixture, arguments: tuple[str, ...], needle: str) -> None:
    """Named option, rule, exit status 2."""
    assert needle in fail(capsys, *arguments)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A figure folder below a file."""
    (tmp_path / "file").write_text("")
    assert "cannot be written" in fail(capsys, "--repeats", "2", "--out", tmp_path / "file" / "x")


def test_the_reader_raises_user_errors(tmp_path: Path) -> None:
    """The documented API does what the command line does."""
    with pytest.raises(UserError, match="no such file"):
        read_tensor(tmp_path / "none", None, 1)
