"""My Hugging Face model, my routing trace, my acceptance: is speculation worth it on the proposed machine?

    python examples/own_model_and_trace.py FOLDER_WITH_CONFIG_JSON TRACE.npz ACCEPTANCE

Without arguments: the shipped model, generated routing of its sizes, and the acceptance that was measured on it.
`elmoe3d trace capture` records a model's own routing; `elmoe3d sim --model --trace --acceptance` does the same as this.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from sw_stack.comparison.cell import CellKey
from sw_stack.comparison.evaluate import Settings, architecture
from sw_stack.comparison.heat import evaluate_settled
from sw_stack.machines.catalogue import machine
from sw_stack.workloads.acceptance import acceptance_of
from sw_stack.workloads.generator import generate
from sw_stack.workloads.generator_presets import preset
from sw_stack.workloads.trace import write_trace

if len(sys.argv) == 4:
    model, trace, acceptance = sys.argv[1], sys.argv[2], float(sys.argv[3])
else:
    model = "sw_stack/data/elmoe-8m"
    config = architecture(model)
    # A stand-in with the model's sizes; `elmoe3d trace capture` records a real one.
    like = preset("gpt-oss-20b").params
    layers = sum(config.moe_layers)
    params = replace(like, num_experts=config.experts, top_k=config.top_k, locality=like.locality[:layers])
    trace = str(write_trace(Path(tempfile.mkdtemp()) / "trace.npz", generate(params, 32, 128, 0)))
    acceptance = float(acceptance_of("elastic", "elmoe-8m", "gsm8k").by_position(Settings().tree)[0])

settings = Settings(rounds=8, trace=trace, acceptance=acceptance)
print(f"{model}: acceptance {acceptance:.2f} per drafted token")
for batch in (1, 4, 16):
    row = {}
    for method in ("none", "elastic"):
        row[method] = evaluate_settled(
            CellKey(model, "gsm8k", batch, "elmoe3d-8gb", method), machine("elmoe3d-8gb"), settings
        )
    gain = row["none"].seconds_per_token / row["elastic"].seconds_per_token
    print(
        f"batch {batch:2}: plain {row['none'].tokens_per_second:10,.0f} tokens/s, "
        f"Elastic-SD {row['elastic'].tokens_per_second:10,.0f} tokens/s, gain {gain:.2f}"
    )
