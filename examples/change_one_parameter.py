"""Change one parameter: what would rows of another size do to the hybrid-bonded DRAM machine?

python examples/change_one_parameter.py
"""

from dataclasses import replace

from cycle_model.hb.stream import with_row_bytes
from sw_stack.comparison.cell import CellKey
from sw_stack.comparison.evaluate import Settings
from sw_stack.comparison.heat import evaluate_settled
from sw_stack.machines.catalogue import machine

settings = Settings(rounds=4)
proposed = machine("elmoe3d-8gb")
print("HB row   plain decoding   Elastic-SD   (tokens per second, Qwen3-30B-A3B, batch 8)")
for row_bytes in (2048, 8192, 65536):
    hb = with_row_bytes(proposed.chip.hb, row_bytes)
    changed = replace(proposed, chip=replace(proposed.chip, hb=hb))
    cells = [
        evaluate_settled(CellKey("qwen3-30b-a3b", "gsm8k", 8, proposed.name, method), changed, settings)
        for method in ("none", "elastic")
    ]
    plain, drafted = (cell.tokens_per_second for cell in cells)
    print(f"{row_bytes // 1024:3} KB   {plain:14.1f}   {drafted:10.1f}")
