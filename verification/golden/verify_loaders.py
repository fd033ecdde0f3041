"""Checkpoint loading against transformers: ``make verify-loaders``.

1. The committed golden tensors are remade and must be the same.
2. Every configuration, also those that are not committed, must give the logits of transformers within 1e-4 of their
   standard deviation, which must be at least 1, with peaked attention, at positions past windows and contexts.
3. Each stored tensor is changed in turn: both sides must move, and must still agree.
4. Routing captured from transformers through hooks must be the float reference's.
5. The runtime, run in float, must be as near; the distance of its bit-exact INT8 form is printed.

Exit status 1 where something is not so.
"""

from __future__ import annotations

import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from rich.table import Table
from safetensors.torch import load_file

from sw_stack.models.checkpoint import open_checkpoint
from sw_stack.models.float_reference import FloatReference
from sw_stack.reports.terminal import console
from sw_stack.workloads.capture import capture_transformers
from verification.golden.configs import COMMITTED, CONFIGS
from verification.golden.make_golden import FOLDER, GOLDEN, make, tokens_of
from verification.golden.routing import float_routing
from verification.golden.runtime_distance import runtime_distance
from verification.golden.tiny_checkpoints import random_tensors, reference_model, reference_outputs, write_checkpoint

BUILD = Path("build/golden")
TOLERANCE = 1e-4
SAME_BITS = 1e-5
"""Of remade logits: another BLAS may order sums differently."""
MOVED = 1e-3


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference over the standard deviation of what is expected."""
    return float(np.abs(found - expected).max() / expected.std())


def _own_logits(folder: Path, tokens: np.ndarray) -> np.ndarray:
    return FloatReference(open_checkpoint(folder)).logits(tokens)


def _same_as_committed(name: str) -> list[str]:
    """Names of what differs between the committed folder and the remade one."""
    differing = []
    for path in sorted((FOLDER / name).iterdir()):
        remade = BUILD / name / path.name
        if path.name == GOLDEN:
            old, new = (load_file(p)["logits"].numpy() for p in (path, remade))
            same = relative_error(new, old) < SAME_BITS
        else:
            same = remade.exists() and remade.read_bytes() == path.read_bytes()
        if not same:
            differing.append(path.name)
    return differing


def _perturbed(tensor: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """A clearly different tensor of the same kind; MXFP4 scales go up by one, codes are drawn anew."""
    if tensor.dtype == torch.uint8:
        codes = tensor.dim() == 4
        return torch.from_numpy(rng.integers(0, 256, tuple(tensor.shape), dtype=np.uint8)) if codes else tensor + 1
    noise = torch.from_numpy(rng.standard_normal(tuple(tensor.shape)).astype(np.float32))
    return (tensor.float() + 0.5 * tensor.float().std() * noise + 0.05 * noise).to(tensor.dtype)


def _perturbation_failures(name: str) -> tuple[int, list[str]]:
    """How many stored tensors were changed, and those after which a side stood still or the two disagreed."""
    config, tokens = CONFIGS[name], tokens_of(CONFIGS[name])
    tensors = random_tensors(name, config)
    baseline = load_file(BUILD / name / GOLDEN)["logits"].numpy()
    failures = []
    folder = BUILD / "perturbed"
    for number, stored in enumerate(tensors):
        shutil.rmtree(folder, ignore_errors=True)
        changed = tensors | {stored: _perturbed(tensors[stored], np.random.default_rng(number))}
        write_checkpoint(folder, config, changed, sharded=False)
        theirs, _ = reference_outputs(reference_model(folder), tokens)
        ours = _own_logits(folder, tokens)
        moved = min(relative_error(theirs, baseline), relative_error(ours, baseline))
        if moved < MOVED or relative_error(ours, theirs) > TOLERANCE:
            failures.append(f"{stored} (moved {moved:.1e}, disagree {relative_error(ours, theirs):.1e})")
    return len(tensors), failures


def _captured_routing_agrees(folder: Path, tokens: np.ndarray) -> bool:
    """Whether hooks on the routers of transformers see the experts that the float reference chooses, in its order."""
    sequences, about = [tokens.tolist()], {"name": folder.name, "source": "golden tokens", "licence": "none"}
    trace = capture_transformers(reference_model(folder), sequences, ["golden"], **about)
    weights = float_routing(open_checkpoint(folder), tokens)
    return np.array_equal(trace.experts, np.argsort(-weights, axis=2)[..., : trace.top_k])


def main() -> int:
    """Run all checks; 1 where one failed."""
    out = console()
    table = Table(
        title="relative to the deviation of the logits: largest error of the float reference; root mean square"
    )
    titles = ("configuration", "logits", "attention", "reference", "runtime in float", "INT8", "median token")
    for title in (*titles, "same next", "remade", "perturbed"):
        table.add_column(title, no_wrap=title == "configuration")
    failures: list[str] = []
    for name, config in CONFIGS.items():
        facts = make(name, BUILD / name)
        tokens = tokens_of(config)
        expected = load_file(BUILD / name / GOLDEN)["logits"].numpy()
        error = relative_error(_own_logits(BUILD / name, tokens), expected)
        distance = runtime_distance(BUILD / name, tokens, expected)
        if not _captured_routing_agrees(BUILD / name, tokens):
            failures.append(f"{name}: routing captured through hooks is not the float reference's")
        remade = perturbed = "-"
        if facts["logit_std"] < 1 or facts["attention_peak"] < 0.5:
            failures.append(f"{name}: logits or attention too flat to prove anything: {facts}")
        if error > TOLERANCE:
            failures.append(f"{name}: logits differ from transformers by {error:.1e}")
        if distance.float_rms > TOLERANCE:
            failures.append(f"{name}: the runtime in float differs from transformers by {distance.float_rms:.1e}")
        if name in COMMITTED:
            differing = _same_as_committed(name)
            remade = "differs" if differing else "same"
            failures += [f"{name}: {file} is not what the script makes" for file in differing]
            count, bad = _perturbation_failures(name)
            perturbed = f"{count - len(bad)} of {count}"
            failures += [f"{name}: {line}" for line in bad]
        table.add_row(
            name,
            f"{facts['logit_std']:.2f}",
            f"{facts['attention_peak']:.2f}",
            f"{error:.1e}",
            f"{distance.float_rms:.1e}",
            f"{distance.int8_rms:.1%}",
            f"{distance.int8_median:.1%}",
            f"{distance.same_choice:.0%}",
            remade,
            perturbed,
        )
        out.print(f"{name} done")
    out.print(table)
    out.print(f"transformers {version('transformers')}, torch {version('torch')}, numpy {np.__version__}")
    for line in failures:
        out.print(f"FAILED {line}", markup=False)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
