"""``elmoe3d generate``: text from the shipped model, or another checkpoint, through the bit-exact numerics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from hw.errors import UserError, nearest

DEFAULT_MODEL = Path(__file__).resolve().parents[1] / "data" / "elmoe-8m"


def command(
    prompt: Annotated[list[str], typer.Option(help="Text to continue; may be given several times.")],
    method: str = typer.Option("none", help="Drafting method: none (one token per sequence and pass)."),
    model: Annotated[
        Path,
        typer.Option(help="Folder with config.json, safetensors and tokenizer.json.", show_default="shipped model"),
    ] = DEFAULT_MODEL,
    batch: int = typer.Option(0, help="Sequences decoded together, 1 to 64; prompts repeat. 0: one per prompt."),
    tokens: int = typer.Option(64, help="New tokens per sequence."),
    temperature: float = typer.Option(0.0, help="0 is greedy."),
    top_p: float = typer.Option(1.0, help="Sample from the smallest set with this share of the probability."),
    seed: int = typer.Option(0, help="Seed of the sampling; each sequence has its own stream."),
    kv: str = typer.Option("int8", help="Key/value cache: int8 or fp16."),
    threads: int = typer.Option(2, help="CPU threads; changes no result."),
    quiet: bool = typer.Option(False, "--quiet", help="Text only, no summary."),
) -> None:
    """Continue a prompt; text is printed as it is produced, with a batch whole lines, numbered by sequence."""
    from sw_stack.models.checkpoint import open_checkpoint
    from sw_stack.models.generation import check_request
    from sw_stack.models.kv_cache import KvFormat
    from sw_stack.models.quantized_model import QuantizedModel
    from sw_stack.models.runtime import Runtime
    from sw_stack.models.sampling import RandomStream, SamplingConfig
    from sw_stack.models.tokenizer import TextTokenizer

    decode = _method(method)
    if kv not in ("int8", "fp16"):
        raise UserError(f"kv must be int8 or fp16, not {kv!r}")
    if not 0 <= batch <= 64:
        raise UserError(f"batch must be 0 to 64, not {batch}")
    if not 1 <= threads <= 64:
        raise UserError(f"threads must be 1 to 64, not {threads}")
    sampling = SamplingConfig(temperature=temperature, top_p=top_p)
    RandomStream(seed, 0)  # refuses a seed out of range before anything is loaded
    if not all(prompt):
        raise UserError("the prompt must not be empty")
    source = open_checkpoint(model)
    tokenizer = TextTokenizer(model, source.config.vocab)
    texts = [prompt[i % len(prompt)] for i in range(batch or len(prompt))]
    prompts = [tokenizer.encode(text) for text in texts]
    check_request(prompts, tokens, source.config.max_positions)
    runtime = Runtime(QuantizedModel(source), kv_format=KvFormat(kv), threads=threads)

    start = time.perf_counter()
    produced = _print_text(decode(runtime, prompts, tokens, sampling, seed), tokenizer, texts)
    seconds = time.perf_counter() - start
    if not quiet:
        read = sum(len(ids) for ids in prompts)
        typer.echo(
            f"{len(prompts)} sequences, {read} prompt tokens, {produced} new tokens in {seconds:.2f} s "
            f"({produced / seconds:.0f} tokens/s with prefill)",
            err=True,
        )


def _method(name: str) -> Callable[..., Iterator]:
    """The decoder called ``name``: (runtime, prompts, tokens, sampling, seed) -> iterator of ``Emitted``."""
    from sw_stack.models.generation import decode_plain

    methods = {"none": decode_plain}
    if name not in methods:
        raise UserError(f"unknown method {name!r}; {nearest(name, sorted(methods))}")
    return methods[name]


def _print_text(steps: Iterator, tokenizer, texts: list[str]) -> int:
    """Print text as it comes; returns how many tokens came. One sequence flows, several give whole lines."""
    from sw_stack.models.tokenizer import TextStream

    streams = [TextStream(tokenizer) for _ in texts]
    lines = list(texts)
    alone, produced = len(texts) == 1, 0
    if alone:
        typer.echo(texts[0], nl=False)
    for step in steps:
        i = step.sequence
        produced += len(step.tokens)
        new = "".join(streams[i].add(token) for token in step.tokens) + (streams[i].end() if step.done else "")
        if alone:
            typer.echo(new, nl=step.done)
            continue
        *whole, lines[i] = (lines[i] + new).split("\n")
        for line in [*whole, lines[i]] if step.done else whole:
            typer.echo(f"{i}: {line}")
    return produced
