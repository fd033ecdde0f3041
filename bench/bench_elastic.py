"""``make bench-elastic``: new tokens per second of every drafting method beside plain decoding, at batch 16.

On this machine speculation saves nothing: a verified node costs what a decoded token costs. The question is what the
simulation of it costs; the goal is Elastic-SD within 3 x of plain decoding. Methods take turns and the best run of each
counts, since other work on the machine only adds time; CPU seconds are printed beside.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from hw.errors import UserError
from sw_stack.commands.generate_command import DEFAULT_MODEL
from sw_stack.elastic.methods import DRAFT_FOLDERS, HotSetChoice, available_methods, draft_folder, make_decoder
from sw_stack.elastic.rounds import Speculation
from sw_stack.elastic.study.texts import held_out_ids, windows
from sw_stack.elastic.tree import TreeShape
from sw_stack.models.checkpoint import open_checkpoint
from sw_stack.models.generation import decode_plain
from sw_stack.models.quantized_model import QuantizedModel
from sw_stack.models.runtime import Runtime
from sw_stack.models.sampling import SamplingConfig
from sw_stack.models.tokenizer import TextTokenizer

GOAL = 3.0
BATCH = 16
TOKENS = 64
PROMPT_TOKENS = 32
RUNS = 3
TREES = ("5", "2x4")
GREEDY = SamplingConfig()


def timed(steps) -> tuple[float, float]:
    """New tokens per second, and per CPU second."""
    start, cpu = time.perf_counter(), time.process_time()
    tokens = sum(len(step.tokens) for step in steps)
    return tokens / (time.perf_counter() - start), tokens / (time.process_time() - cpu)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    source = open_checkpoint(args.model)
    runtime = Runtime(QuantizedModel(source), threads=args.threads)
    texts = held_out_ids(TextTokenizer(args.model, source.config.vocab))
    prompts = [window for ids in texts.values() for window in windows(ids, -(-BATCH // len(texts)), PROMPT_TOKENS)]
    prompts = prompts[:BATCH]

    def plain():
        return decode_plain(runtime, prompts, TOKENS, GREEDY, 0)

    def speculative(method: str, tree: str):
        folder = draft_folder(args.model, method) if method in DRAFT_FOLDERS else None
        return make_decoder(
            runtime,
            method,
            Speculation(TreeShape.parse(tree)),
            HotSetChoice(),
            batch=BATCH,
            folder=folder,
            threads=args.threads,
        )

    methods = available_methods(args.model)[1:]
    rows = [("plain", "")] + [(method, tree) for method in methods for tree in TREES]
    best: dict[tuple[str, str], tuple[float, float]] = {}
    lengths: dict[tuple[str, str], float] = {("plain", ""): 1.0}
    timed(plain())  # compiles and quantises
    for _ in range(RUNS):
        for row in rows:
            decoder = None if row[0] == "plain" else speculative(*row)
            speed = timed(decoder.decode(prompts, TOKENS, GREEDY, 0) if decoder else plain())
            best[row] = tuple(map(max, speed, best.get(row, speed)))
            if decoder:
                lengths[row] = decoder.statistics.accept_length
    print(
        f"model: {args.model.name}, batch {BATCH}, {PROMPT_TOKENS} + {TOKENS} tokens, half of the experts resident, "
        f"{args.threads} threads, load average {os.getloadavg()[0]:.1f}, best of {RUNS}"
    )
    print(f"{'':18}{'tokens/s':>10}{'per CPU s':>11}{'plain / this':>14}{'CPU ratio':>11}{'accept length':>15}")
    for row, (speed, per_cpu) in best.items():
        slower, cpu = best["plain", ""][0] / speed, best["plain", ""][1] / per_cpu
        goal = f"   (goal: at most {GOAL:g})" if row == ("elastic", TREES[0]) else ""
        print(f"{' '.join(row):18}{speed:10.0f}{per_cpu:11.0f}{slower:14.2f}{cpu:11.2f}{lengths[row]:15.2f}{goal}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"bench-elastic: {error}", file=sys.stderr)
        sys.exit(2)
