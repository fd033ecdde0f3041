"""Digests of the runtime's results as JSON, for comparison between environments: ``python -m ...runtime_digest``.

With ``--assembly`` every compiled kernel's machine code is searched for fused multiply-adds and for calls into a
mathematics library (needs an empty Numba cache: cached code cannot be inspected).
"""

from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil
import re
import sys

import numba
import numpy as np

import cycle_model.functional
from sw_stack.models import sampling
from sw_stack.models.kv_cache import KvFormat
from sw_stack.models.precision import DRAFT, FULL, Precision, WeightScheme
from sw_stack.models.runtime import Runtime, Segment
from verification.bench.tiny_models import FAMILIES, VOCAB, model

FUSED = re.compile(r"\bvfn?m(?:add|sub)\w+")
LIBRARY = re.compile(r"\b(?:exp|log|pow|sin|cos|tan|tanh|sqrt|fma|rint)f?\b")


def family_digest(family: str) -> str:
    """SHA-256 over logits of prefill, tree, draft and float passes with both caches, and over routing."""
    digest = hashlib.sha256()
    prompt = [(7 * i * i + 3 * i) % VOCAB for i in range(270)]
    for kv_format in (KvFormat.INT8, KvFormat.FP16):
        runtime = Runtime(model(family), kv_format=kv_format)
        cache = runtime.new_cache()
        for precision in (FULL, DRAFT, Precision.uniform(WeightScheme.FLOAT)):
            result = runtime.forward([Segment(cache, prompt)], precision=precision)
            for record in result.routing:
                digest.update(record.scores.tobytes() + record.weights.tobytes() + record.chosen.tobytes())
            digest.update(result.logits.tobytes())
            cache.discard()
        runtime.forward([Segment(cache, prompt)], logits="none")
        cache.commit()
        tree = runtime.forward([Segment(cache, [1, 2, 3, 4, 5], [-1, -1, 0, 1, 2])])
        digest.update(tree.logits.tobytes())
    weights = sampling.token_weights(tree.logits[0], sampling.SamplingConfig(temperature=0.8, top_p=0.9))
    digest.update(weights.tobytes())
    return digest.hexdigest()


def _kernels() -> dict[str, numba.core.dispatcher.Dispatcher]:
    modules = [
        importlib.import_module(f"{cycle_model.functional.__name__}.{info.name}")
        for info in pkgutil.iter_modules(cycle_model.functional.__path__)
    ]
    found = {}
    for module in (*modules, sampling):
        for name, value in vars(module).items():
            if isinstance(value, numba.core.dispatcher.Dispatcher) and value.signatures:
                found[f"{value.py_func.__module__}.{name}"] = value
    return found


def findings(assembly: str) -> list[str]:
    """Fused multiply-adds and library functions that a kernel's machine code uses."""
    code = "\n".join(line.split("#")[0] for line in assembly.splitlines() if "\t.asciz" not in line)
    return sorted({*FUSED.findall(code), *LIBRARY.findall(code)})


@numba.njit(fastmath={"contract"})
def _contracting(a, b, c, out):
    for i in range(out.size):
        out[i] = a[i] * b[i] + c[i] + np.exp(a[i])


def main() -> None:
    """Print digests, NumPy's enabled features, and findings by kernel."""
    features = np._core._multiarray_umath.__cpu_features__
    report = {
        "numpy": np.__version__,
        "features": sorted(name for name in np._core._multiarray_umath.__cpu_dispatch__ if features[name]),
        "digests": {family: family_digest(family) for family in FAMILIES},
    }
    if "--assembly" in sys.argv:
        kernels = _kernels()
        report["kernels"] = {name: [] for name in kernels}
        for name, kernel in kernels.items():
            for assembly in kernel.inspect_asm().values():
                report["kernels"][name] += findings(assembly)
        x = np.ones(8, np.float32)
        _contracting(x, x, x, x)
        report["control"] = sorted({f for text in _contracting.inspect_asm().values() for f in findings(text)})
    print(json.dumps(report))


if __name__ == "__main__":
    main()
