"""``elmoe3d generate``: text from the shipped model, or another checkpoint, through the bit-exact numerics."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from hw.errors import UserError
from hw.files import write_atomic

DEFAULT_MODEL = Path(__file__).resolve().parents[1] / "data" / "elmoe-8m"


def command(
    prompt: Annotated[list[str], typer.Option(help="Text to continue; may be given several times.")],
    method: str = typer.Option("none", help="Drafting method: none, elastic, quant, slm or eagle."),
    tree: str = typer.Option("5", help="Draft tree: DEPTH (a chain) or DEPTHxWIDTH, such as 2x4."),
    resident: Annotated[
        float | None,
        typer.Option(help="Share of each layer's experts whose MSB slices fit in HB, 0 to 1.", show_default="0.5"),
    ] = None,
    hb_mb: Annotated[
        float | None,
        typer.Option(help="Instead: all of HB in MB (1e6 bytes); dense weights, then keys and values take theirs."),
    ] = None,
    hot_set: str = typer.Option("hot", help="Which: hot (last draft phase), random or static (prefill)."),
    allocation: str = typer.Option("msb-only", help="Slices kept: msb-only (published), whole or adaptive."),
    dense_draft: str = typer.Option("msb", help="Dense parts in an elastic draft: msb (upper slices) or full."),
    mode: str = typer.Option("auto", help="always draft; auto: draft or AR; adaptive: any depth, by predicted time."),
    rule: str = typer.Option("follow", help="When sampling: follow the target's draws, or reject (drawn trees)."),
    chip: str = typer.Option("4gb", help="Chip whose roofline predicts time."),
    draft_model: Annotated[
        Path | None,
        typer.Option(help="Folder of the draft model (slm, eagle).", show_default="beside the model"),
    ] = None,
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
    stream_layers: bool = typer.Option(
        False, "--stream-layers", help="Load each layer anew in every pass: memory for one layer, slow."
    ),
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all numbers here, with provenance.")] = None,
    quiet: bool = typer.Option(False, "--quiet", help="Text only, no summary."),
) -> None:
    """Continue a prompt, with or without speculative decoding.

    The text is the same, token for token. It is printed as it is produced, with a batch whole lines, numbered by
    sequence; then acceptance by position, accept length, experts touched, cache hits and bytes by tier.
    docs/elastic_sd.md explains them.
    """
    from sw_stack.elastic.methods import DRAFT_FOLDERS, HotSetChoice, check_method, draft_folder, make_decoder
    from sw_stack.elastic.rounds import Speculation
    from sw_stack.elastic.summary import record, show
    from sw_stack.elastic.tree import TreeShape
    from sw_stack.models.checkpoint import open_checkpoint
    from sw_stack.models.generation import check_request, decode_plain
    from sw_stack.models.kv_cache import KvFormat
    from sw_stack.models.precision import DRAFT, DRAFT_EXPERTS
    from sw_stack.models.quantized_model import QuantizedModel
    from sw_stack.models.runtime import Runtime
    from sw_stack.models.sampling import RandomStream, SamplingConfig
    from sw_stack.models.tokenizer import TextTokenizer
    from sw_stack.reports.terminal import console

    check_method(method)
    if dense_draft not in ("msb", "full"):
        raise UserError(f"dense-draft must be msb or full, not {dense_draft!r}")
    speculation = Speculation(TreeShape.parse(tree), mode, rule)
    if resident is not None and hb_mb is not None:
        raise UserError("give resident or hb-mb, not both")
    if hb_mb is not None and not 0 <= hb_mb <= 1e9:
        raise UserError(f"hb-mb must be 0 to 1e9, not {hb_mb}")
    choice = HotSetChoice(
        fraction=0.5 if resident is None else resident,
        hb_bytes=None if hb_mb is None else int(hb_mb * 1e6),
        policy=hot_set,
        allocation=allocation,
        seed=seed,
    )
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
    runtime = Runtime(QuantizedModel(source, keep_layers=not stream_layers), kv_format=KvFormat(kv), threads=threads)

    if method == "none" and not source.config.experts:  # a dense model: nothing to cache
        _print_text(decode_plain(runtime, prompts, tokens, sampling, seed), tokenizer, texts)
        return
    folder = draft_model or (draft_folder(model, method) if method in DRAFT_FOLDERS else None)
    decoder = make_decoder(
        runtime,
        method,
        speculation,
        choice,
        batch=len(prompts),
        positions=sum(len(ids) + tokens for ids in prompts),
        folder=folder,
        threads=threads,
        chip_name=chip,
        precision=DRAFT_EXPERTS if dense_draft == "full" else DRAFT,
    )

    start = time.perf_counter()
    produced = _print_text(decoder.decode(prompts, tokens, sampling, seed), tokenizer, texts)
    seconds = time.perf_counter() - start
    if json_path:
        write_atomic(json_path, _document(record(decoder), model, prompts, produced, sampling, seed))
    if not quiet:
        read = sum(len(ids) for ids in prompts)
        typer.echo(
            f"\n{len(prompts)} sequence{'s' * (len(prompts) > 1)}, {read} prompt tokens, "
            f"{produced} new tokens in {seconds:.2f} s "
            f"({produced / seconds:.0f} tokens/s with prefill)"
        )
        show(decoder, console())


def _document(figures: dict, model: Path, prompts: list, produced: int, sampling, seed: int) -> str:
    """The JSON form of a run."""
    from sw_stack.provenance import provenance

    config = {"model": model.name, "temperature": sampling.temperature, "top_p": sampling.top_p, "batch": len(prompts)}
    document = {
        "format": "elmoe3d-generate",
        "format_version": 1,
        "provenance": provenance(config, seed),
        "new_tokens": produced,
        **figures,
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


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
