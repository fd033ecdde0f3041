"""``make lossless``: greedy text of every drafting method against plain decoding, 1 000 prompts of 64 tokens.

The reference is every prompt decoded plainly and alone; method ``none`` is plain decoding in the batch. Prompts are
windows of held-out text of the domains in turn, in batches of 1 to 16 (16 mostly, so that the run is short; each
smaller size twice per method). Finished batches are kept in ``build/lossless``: a run that was stopped continues;
changed weights start over. Exit status 1 where a token differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path

from hw.errors import UserError
from hw.files import write_atomic
from sw_stack.commands.generate_command import DEFAULT_MODEL
from sw_stack.elastic.methods import DRAFT_FOLDERS, METHODS, HotSetChoice, available_methods, draft_folder, make_decoder
from sw_stack.elastic.rounds import Speculation
from sw_stack.elastic.study.texts import held_out_ids, windows
from sw_stack.elastic.tree import TreeShape
from sw_stack.models.checkpoint import open_checkpoint
from sw_stack.models.generation import Emitted, decode_plain
from sw_stack.models.quantized_model import QuantizedModel
from sw_stack.models.runtime import Runtime
from sw_stack.models.sampling import SamplingConfig
from sw_stack.models.tokenizer import TextTokenizer

PROMPT_TOKENS = (8, 16, 24, 32)
SHAPES = ("5", "2x4", "3", "3x2")
FRACTIONS = (0.5, 0.25, 0.75, 0.125)
GREEDY = SamplingConfig()


def batches(count: int) -> list[tuple[int, int]]:
    """(first prompt, size) of every batch: 1 to 16 twice, as far as ``count`` goes, then 16 each."""
    sizes = [size for size in range(1, 17) for _ in range(2)]
    found, first = [], 0
    while first < count:
        size = min(sizes.pop(0) if sizes else 16, count - first)
        found.append((first, size))
        first += size
    return found


def all_prompts(tokenizer: TextTokenizer, count: int) -> list[list[int]]:
    """Windows of the held-out texts in turn, of several lengths."""
    texts = held_out_ids(tokenizer)
    each = -(-count // len(texts))
    cut = {domain: windows(ids, each, max(PROMPT_TOKENS)) for domain, ids in texts.items()}
    return [cut[domain][i][: PROMPT_TOKENS[i % 4]] for i in range(each) for domain in cut][:count]


def digest(*parts: object) -> str:
    """Of configuration values and files."""
    state = hashlib.sha256()
    for part in parts:
        state.update(part.read_bytes() if isinstance(part, Path) else repr(part).encode())
    return state.hexdigest()[:16]


def tokens_of(steps: list[Emitted] | object, count: int) -> list[list[int]]:
    """Tokens of every sequence."""
    found: list[list[int]] = [[] for _ in range(count)]
    for step in steps:
        found[step.sequence] += step.tokens
    return found


class LosslessRun:
    """All batches of all methods, with what is finished kept on disk."""

    def __init__(self, model: Path, methods: list[str], prompts: int, tokens: int, threads: int, out: Path) -> None:
        source = open_checkpoint(model)
        self.runtime = Runtime(QuantizedModel(source), threads=threads)
        self.prompts = all_prompts(TextTokenizer(model, source.config.vocab), prompts)
        self.model, self.methods, self.tokens, self.threads, self.out = model, methods, tokens, threads, out
        self.batches = batches(prompts)
        self.key = digest(model / "model.safetensors", self.prompts, tokens)
        for method in methods:
            if method not in available_methods(model):
                raise UserError(f"{draft_folder(model, method)}: method {method} needs the draft model's weights here")

    def run(self) -> int:
        """Compare everything; returns how many sequences differ."""
        start, differing, compared, done = time.perf_counter(), 0, 0, 0
        for number, (first, size) in enumerate(self.batches):
            reference = None
            for method in self.methods:
                path = self.out / f"{self._state(method)}-{number:04d}.json"
                if not path.exists():
                    if reference is None:
                        reference = self._plain(first, size)
                    write_atomic(path, json.dumps(self._compare(method, number, first, size, reference)) + "\n")
                    done += 1
                result = json.loads(path.read_text())
                compared += result["sequences"]
                differing += len(result["differing"])
                for sequence in result["differing"]:
                    print(f"DIFFERS: method {method}, prompt {sequence}, batch of {size}")
            share = (first + size) / len(self.prompts)
            print(
                f"{100 * share:5.1f} %  {first + size} prompts x {len(self.methods)} methods, {differing} differ, "
                f"{time.perf_counter() - start:.0f} s",
                flush=True,
            )
        sizes = sorted({size for _, size in self.batches})
        print(
            f"compared {compared} sequences of {self.tokens} tokens ({', '.join(self.methods)}; batches of {sizes[0]} "
            f"to {sizes[-1]}; {done} batches now, the rest before): {differing} differ"
        )
        if compared == 0:
            raise UserError("nothing was compared")
        return differing

    def _state(self, method: str) -> str:
        folder = draft_folder(self.model, method) / "model.safetensors" if method in DRAFT_FOLDERS else None
        return f"{method}-{digest(self.key, *([folder] if folder else []))}"

    def _plain(self, first: int, size: int) -> list[list[int]]:
        """Every prompt alone."""
        given = self.prompts[first : first + size]
        return [tokens_of(decode_plain(self.runtime, [prompt], self.tokens, GREEDY, 0), 1)[0] for prompt in given]

    def _compare(self, method: str, number: int, first: int, size: int, reference: list[list[int]]) -> dict:
        decoder = make_decoder(
            self.runtime,
            method,
            Speculation(TreeShape.parse(SHAPES[number % 4]), ("always", "adaptive")[number % 8 == 7]),
            HotSetChoice(fraction=FRACTIONS[number // 4 % 4]),
            batch=size,
            folder=draft_folder(self.model, method) if method in DRAFT_FOLDERS else None,
            threads=self.threads,
        )
        given = self.prompts[first : first + size]
        found = tokens_of(decoder.decode(given, self.tokens, GREEDY, 0), size)
        wrong = [first + i for i in range(size) if found[i] != reference[i]]
        return {"sequences": size, "differing": wrong, "accept_length": decoder.statistics.accept_length}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="default: all whose draft models are there")
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("build/lossless"))
    args = parser.parse_args()
    try:
        if args.prompts < 1:
            raise UserError(f"prompts must be at least 1, not {args.prompts}")
        methods = args.methods or available_methods(args.model)
        for method in METHODS:
            if method not in methods:
                print(f"not compared: {method}" + ("" if args.methods else ", its draft model is not there"))
        run = LosslessRun(args.model, methods, args.prompts, args.tokens, args.threads, args.out)
        sys.exit(1 if run.run() else 0)
    except UserError as error:
        print(f"lossless: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
