"""Quality and routing of the shipped model: ``python -m sw_stack.models.training.evaluate``.

Prints, and writes to ``quality.json`` and ``MODEL_CARD.md`` beside the model: bits per byte of held-out text by
domain beside Kneser-Ney 5-gram models, shares and locality of the experts beside published figures, agreement of the
drafters, and sampled text. The weights are the shipped ones (float16, widened), products in float32.
"""

from __future__ import annotations

import argparse
import json
import math

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file
from torch import Tensor

from hw.files import write_atomic
from sw_stack.models.training import corpus
from sw_stack.models.training.baseline import KINDS, baseline_bits
from sw_stack.models.training.batches import Batches
from sw_stack.models.training.card import STATISTICS, write_card
from sw_stack.models.training.eagle import EagleHead, head_loss, load_head
from sw_stack.models.training.model import Decoder
from sw_stack.models.training.operators import products_in
from sw_stack.models.training.recipes import BUILD, DATA, RECIPES, TARGET, corpus_streams, load_decoder
from sw_stack.models.training.sources import DOMAINS
from sw_stack.workloads.published import PUBLISHED
from sw_stack.workloads.trace import Trace
from sw_stack.workloads.trace_statistics import compute, expert_counts


def windows_of(stream: np.ndarray, context: int, count: int, first: int = 0) -> np.ndarray:
    """Starts of ``count`` windows of ``context`` tokens from ``first`` on, none overlapping in its second half."""
    fitting = min(count, 2 * (len(stream) - first - context - 1) // context)
    return np.linspace(first, len(stream) - context - 1, fitting).astype(int)


def last_step() -> int:
    """Training steps of the shipped model, from its log."""
    return json.loads((DATA / TARGET / "training_log.jsonl").read_text().splitlines()[-1])["step"]


def trained_context() -> int:
    """Tokens of the longest sequences that the shipped model was trained on; beyond it, quality falls."""
    recipe = RECIPES["moe"]
    return recipe.schedule.length(last_step() - 1, recipe.steps)


def seen_text(streams: dict) -> dict[str, np.ndarray]:
    """Which training tokens the shipped model was trained on."""
    recipe, steps = RECIPES["moe"], last_step()
    train = {name: parts["train"] for name, parts in streams.items()}
    return Batches(train, recipe.schedule, steps, recipe.seed).seen()


@torch.no_grad()
def model_bits(model: Decoder, stream: np.ndarray, starts: np.ndarray, context: int) -> tuple[np.ndarray, np.ndarray]:
    """Bits that the model spends on the second half of every window, and the experts it used.

    Every scored token has at least half a window before it.

    Returns
    -------
    bits : (windows, context / 2) float64
    picked : (windows, context, layers, top_k) int, or empty for a dense model
    """
    bits, picked = [], []
    for part in np.array_split(starts, math.ceil(len(starts) / 8)):
        tokens = torch.from_numpy(np.stack([stream[s : s + context + 1] for s in part]).astype(np.int64))
        logits = model(tokens[:, :-1])[:, context // 2 :]
        loss = F.cross_entropy(logits.transpose(1, 2), tokens[:, context // 2 + 1 :], reduction="none")
        bits.append(loss.double().numpy() / math.log(2))
        if model.shape.experts:
            layers = [layer.mlp.picked.view(len(part), context, -1) for layer in model.layers]
            picked.append(torch.stack(layers, 2).numpy())
    return np.concatenate(bits), np.concatenate(picked) if picked else np.empty(0)


def quality(
    models: dict[str, Decoder], streams: dict, baselines: dict, lengths: np.ndarray, count: int
) -> tuple[dict, dict]:
    """Bits per byte by domain of every model and baseline on the same tokens; and the target's routing."""
    table, picked, context, full = {}, {}, trained_context(), models["moe"].shape.context
    for name, parts in streams.items():
        starts = windows_of(parts["test"], context, count, full - context)
        scored = starts[:, None] + np.arange(context // 2 + 1, context + 1)
        text = lengths[parts["test"][scored]] > 0  # a start mark is no text
        total = int(lengths[parts["test"][scored]].sum())
        row = {"bytes": total, "tokens": int(text.sum())}
        for key, model in models.items():
            bits, experts = model_bits(model, parts["test"], starts, context)
            row[key] = float(bits[text].sum() / total)
            if experts.size:
                picked[name] = experts
        if context < full:
            bits, _ = model_bits(models["moe"], parts["test"], starts + context - full, full)
            row["moe_full_context"] = float(bits[:, -context // 2 :][text].sum() / total)
        for kind, by_domain in baselines.items():
            row[f"kneser_ney_{kind}"] = float(by_domain[name][scored][text].sum() / total)
        table[name] = row
    return table, picked


def excerpt_quality(model: Decoder, streams: dict, baselines: dict, tokenizer, lengths: np.ndarray) -> dict:
    """Bits per byte of the first 511 tokens of every stored excerpt: reference values for tests without PyTorch."""
    found = {}
    for name, parts in streams.items():
        ids = excerpt_tokens(name, tokenizer)
        tokens = torch.tensor(ids)[None]
        with torch.no_grad():
            loss = F.cross_entropy(model(tokens)[0, :-1], tokens[0, 1:], reduction="sum").item()
        stream = parts["test"]
        starts = [s for s in np.flatnonzero(stream == 0) if np.array_equal(stream[s : s + len(ids)], ids)]
        total = int(lengths[ids].sum())
        found[name] = {
            "bytes": total,
            "moe": loss / math.log(2) / total,
            **{
                f"kneser_ney_{kind}": float(bits[name][starts[0] : starts[0] + len(ids)].sum() / total)
                for kind, bits in baselines.items()
            },
        }
    return found


def excerpt_tokens(domain: str, tokenizer, count: int = 512) -> list[int]:
    """The start mark and the first ``count`` - 1 tokens of a domain's stored excerpt."""
    return [0, *tokenizer.encode((DATA / "heldout" / f"{domain}.txt").read_text()).ids[: count - 1]]


def routing_trace(picked: dict[str, np.ndarray], experts: int) -> Trace:
    """The experts of every evaluated token as a trace, one sequence per window."""
    every = np.concatenate(list(picked.values()))
    sequences, length, layers, top_k = every.shape
    return Trace(
        experts=every.reshape(-1, layers, top_k).astype(np.uint8),
        offsets=np.arange(sequences + 1) * length,
        num_experts=experts,
        model=TARGET,
        source="held-out files of the training corpus",
        licence="see MODEL_CARD.md",
        phase="prefill",
        domains=tuple(picked),
        domain_of_sequence=np.repeat(np.arange(len(picked)), [len(part) for part in picked.values()]).astype(np.int16),
    )


def routing_figures(picked: dict[str, np.ndarray], experts: int) -> dict:
    """Statistics of all domains together and one by one; shares of the least and most used expert of a layer."""
    trace = routing_trace(picked, experts)
    counts = expert_counts(trace).sum(0)
    shares = counts / counts.sum(1, keepdims=True) * experts
    whole = compute(trace)
    alone = {
        name: compute(trace.select(np.flatnonzero(trace.domain_of_sequence == i)))
        for i, name in enumerate(trace.domains)
    }
    return {
        "smallest_share_of_fair": float(shares.min()),
        "largest_share_of_fair": float(shares.max()),
        "statistics": {name: found.scalars for name, found in {"all": whole, **alone}.items()},
        "reuse_by_layer": whole.reuse_by_layer.tolist(),
        "domain_overlap": whole.domain_overlap.tolist(),
    }


@torch.no_grad()
def agreement(head: EagleHead, target: Decoder, streams: dict, count: int) -> dict[str, float]:
    """Share of test positions where the draft head, given true features, prefers the target's choice."""
    found = {}
    for name, parts in streams.items():
        starts = windows_of(parts["test"], target.shape.context, count)
        tokens = np.stack([parts["test"][s : s + target.shape.context + 1] for s in starts]).astype(np.int64)
        found[name] = head_loss(head, target, torch.from_numpy(tokens), 0.0)[1]["agreement"]
    return found


@torch.no_grad()
def sample(model: Decoder, prompts: list[list[int]], count: int, temperature: float, seed: int) -> Tensor:
    """Continue prompts of one length by ``count`` tokens each: (prompts, count). Recomputes, keeps no cache."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.tensor(prompts)
    for _ in range(count):
        logits = model(tokens[:, -model.shape.context :])[:, -1]
        drawn = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)
        tokens = torch.cat((tokens, drawn), 1)
    return tokens[:, len(prompts[0]) :]


def samples(model: Decoder, tokenizer, texts: list[bytes], count: int, seed: int) -> dict[str, dict[str, str]]:
    """For every domain the first 48 tokens of its stored excerpt as a prompt, and what the model adds."""
    excerpts = [d.name for d in DOMAINS]
    prompts = [excerpt_tokens(name, tokenizer, 48) for name in excerpts]
    drawn = sample(model, prompts, count, temperature=0.7, seed=seed)

    def spell(ids) -> str:
        return b"".join(texts[int(i)] for i in ids).decode(errors="replace")

    return {
        name: {"prompt": spell(prompt), "continuation": spell(ids)}
        for name, prompt, ids in zip(excerpts, prompts, drawn, strict=True)
    }


def show(console: Console, report: dict) -> None:
    """Print the report as tables."""
    console.print(_quality_table(report["bits_per_byte"]))
    figures = report["routing"]
    console.print(
        f"Experts: the least used of any layer has {figures['smallest_share_of_fair']:.2f} of its fair share (limit "
        f"0.125), the most used {figures['largest_share_of_fair']:.2f}"
    )
    console.print(_routing_table(figures["statistics"]))
    names = list(report["bits_per_byte"])
    table = Table("", *names, title="Shared mass of expert use between domains (1 = the same use; none published)")
    for name, row in zip(names, figures["domain_overlap"], strict=True):
        table.add_row(name, *(f"{value:.3f}" for value in row))
    console.print(table)
    for name, value in report.get("eagle_agreement", {}).items():
        console.print(f"EAGLE head prefers the target's next token: {name} {value:.3f}")
    for name, text in report["samples"].items():
        console.rule(name)
        console.print(text["prompt"], style="dim", end="", markup=False, highlight=False)
        console.print(text["continuation"], markup=False, highlight=False)


def _quality_table(bits: dict) -> Table:
    columns = [key for key in next(iter(bits.values())) if key not in ("bytes", "tokens")]
    heads = {f"kneser_ney_{kind}": f"Kneser-Ney {what}" for kind, what in KINDS.items()}
    heads["moe_full_context"] = "moe, beyond its trained context"
    table = Table("domain", "bytes", *(heads.get(c, c) for c in columns), title="Bits per byte of held-out files")
    for name, row in bits.items():
        table.add_row(name, f"{row['bytes']:,}", *(f"{row[c]:.3f}" for c in columns))
    return table


def _routing_table(statistics: dict[str, dict[str, float]]) -> Table:
    published = [name for name in PUBLISHED if PUBLISHED[name]]
    table = Table("statistic", *statistics, *published, title="Routing: this model by domain, and published figures")
    table.columns[0].no_wrap = True
    for key in STATISTICS:
        known = [PUBLISHED[name].get(key) for name in published]
        own = (f"{scalars[key]:.3f}" for scalars in statistics.values())
        table.add_row(key, *own, *("-" if value is None else str(value) for value in known))
    return table


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=320, help="windows per domain; the second half is scored")
    parser.add_argument("--sample", type=int, default=160, help="tokens sampled per domain")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    streams, folder = corpus_streams(), DATA / TARGET
    tokenizer = corpus.shipped_tokenizer(folder)
    texts = corpus.token_texts(tokenizer)
    names = [name for name in ("moe", "dense") if (DATA / RECIPES[name].folder / "model.safetensors").exists()]
    models = {name: load_decoder(name) for name in names} or {"moe": load_decoder("moe")}
    lengths = np.array([len(text) for text in texts])
    baselines = baseline_bits(streams, seen_text(streams), texts, BUILD / "corpus")
    with products_in(torch.float32):
        bits, picked = quality(models, streams, baselines, lengths, args.windows)
        report = {"bits_per_byte": bits, "routing": routing_figures(picked, models["moe"].shape.experts)}
        report["excerpts"] = excerpt_quality(models["moe"], streams, baselines, tokenizer, lengths)
        head_path = DATA / RECIPES["eagle"].folder / "model.safetensors"
        if head_path.exists():
            head = load_head(RECIPES["eagle"].shape, load_file(head_path))
            report["eagle_agreement"] = agreement(head, models["moe"], streams, args.windows // 8)
        report["samples"] = samples(models["moe"], tokenizer, texts, args.sample, args.seed)
    write_atomic(folder / "quality.json", json.dumps(report, indent=1) + "\n")
    write_card(DATA)
    show(Console(), report)


if __name__ == "__main__":
    main()
