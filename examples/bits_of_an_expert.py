"""One stored weight, two models: a projection with both slices, and with the MSB slice alone as the draft computes it.

    python examples/bits_of_an_expert.py

Also shows that the two chains, computed apart and merged, are the bits of the projection, which is what lets one slice
lie in hybrid-bonded DRAM and the other stream in from LPDDR.
"""

import numpy as np

from cycle_model.numerics import merge_slices, project, project_chain
from cycle_model.quantization import quantize_activations, quantize_weights
from hw.isa import WeightMode

rng = np.random.default_rng(7)
weights = rng.standard_normal((64, 256)).astype(np.float32)
x = rng.standard_normal((4, 256)).astype(np.float32)
w, a = quantize_weights(weights), quantize_activations(x)

full, draft, exact = project(w, a), project(w, a, draft=True), x @ weights.T
for name, y in (("both slices", full), ("MSB slice, augmented", draft)):
    noise = 10 * np.log10((exact**2).sum() / ((y - exact) ** 2).sum())
    print(f"{name:22} {noise:5.1f} dB against float")

msb = project_chain(w.msb_codes, w.scales, a.q, WeightMode.MSB)
lsb = project_chain(w.lsb_codes, w.scales, a.q, WeightMode.LSB)
merged = merge_slices(msb, lsb, a.scales)
print("chains merged are the projection, bit for bit:", np.array_equal(merged.view(np.uint32), full.view(np.uint32)))
