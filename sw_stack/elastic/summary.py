"""What a decoding run did, as numbers for JSON and as lines for the terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from sw_stack.elastic.rounds import SpeculativeDecoder
from sw_stack.elastic.scheduler import LARGEST_BATCH


def record(decoder: SpeculativeDecoder) -> dict:
    """All figures of the last run; bytes are totals over the run, prefill not counted."""
    statistics, meter, hot_set = decoder.statistics, decoder.meter, decoder.hot_set
    reads = meter.reads
    return {
        "method": decoder.drafter.name if decoder.drafter else "none",
        "tree": str(decoder.shape),
        "mode": decoder.speculation.mode,
        "rule": decoder.speculation.rule,
        "resident_experts_per_layer": int(hot_set.resident[:, :, 0].sum(axis=1).min()),
        "experts": hot_set.resident.shape[1],
        "acceptance_by_position": [
            None if share != share else round(float(share), 6) for share in statistics.acceptance(decoder.shape.depth)
        ],
        "tried_by_position": statistics.tried.sum(axis=0).tolist(),
        "accept_length": statistics.accept_length if statistics.drafted_rounds else None,
        "tokens_per_target_pass_and_sequence": statistics.tokens / max(statistics.rounds, 1),
        "router_mass_covered": statistics.coverage if statistics.drafted_rounds else None,
        "experts_touched_per_layer_and_pass": reads.touched / reads.layer_passes if reads.touched else None,
        "cache_hit_rate": reads.hits / reads.touched if reads.touched else None,
        "tokens": statistics.tokens,
        "hb_dense_bytes": meter.share.dense,
        "hb_kv_bytes": meter.most_kv_bytes - meter.most_spilled_bytes,
        "hb_expert_bytes": meter.share.expert * hot_set.resident.shape[0],
        "kv_spilled_bytes": meter.most_spilled_bytes,
        "hb_draft_bytes": meter.draft.hb_bytes,
        "hb_verify_bytes": meter.verify.hb_bytes,
        "lpddr_draft_bytes": meter.draft.lpddr_bytes,
        "lpddr_verify_bytes": meter.verify.lpddr_bytes,
        "lpddr_refill_bytes": meter.refill_bytes,
        "refill_free_bytes": hot_set.free_bytes,
        "predicted_batch_threshold": _threshold(decoder),
        "rounds_by_depth": {str(depth): count for depth, count in sorted(statistics.depths.items())},
        "decisions": [{"round": number, "depth": d.depth, "reason": d.reason} for number, d in decoder.reasons],
    }


def _threshold(decoder: SpeculativeDecoder) -> int | None:
    """Smallest batch in which drafting is predicted to pay, with what was measured in this run."""
    if not decoder.statistics.drafted_rounds:
        return None
    return decoder.scheduler.batch_threshold(decoder.kv_bytes_per_sequence, decoder.statistics)


def show(decoder: SpeculativeDecoder, console: Console) -> None:
    """Print a run's figures."""
    run = record(decoder)

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    say(
        f"method {run['method']}, tree {run['tree']} (depth x width), "
        f"{run['resident_experts_per_layer']} of {run['experts']} experts resident per layer"
    )
    if not decoder.statistics.rounds:
        say("prefill gave all tokens: no target pass to account")
        return
    drafted = bool(decoder.statistics.drafted_rounds)
    if drafted:
        shares = "  ".join("-" if share is None else f"{share:.3f}" for share in run["acceptance_by_position"])
        say(f"acceptance by position  {shares}   (of what was reached: {run['tried_by_position']} rounds)")
        say(
            f"accept length           {run['accept_length']:.2f} tokens per draft, bonus token included; "
            f"{run['tokens_per_target_pass_and_sequence']:.2f} per target pass"
        )
        if run["method"] == "elastic":
            say(f"router mass covered     {100 * run['router_mass_covered']:.1f} % of the wanted experts', in drafts")
    say(
        f"experts touched         {run['experts_touched_per_layer_and_pass']:.1f} of {run['experts']} "
        f"per layer and target pass"
    )
    say(f"cache hits              {100 * run['cache_hit_rate']:.1f} % of them had their MSB slice in HB")
    say(
        f"HB                      dense weights {run['hb_dense_bytes'] / 1e6:.3f} MB, keys and values "
        f"{run['hb_kv_bytes'] / 1e6:.3f} MB, room for experts {run['hb_expert_bytes'] / 1e6:.3f} MB"
    )
    if run["kv_spilled_bytes"]:
        say(
            f"keys and values spilled {run['kv_spilled_bytes'] / 1e6:.3f} MB of the oldest positions to LPDDR, "
            f"where HB had no room for them"
        )
    console.print(_bytes_table(run))
    if drafted:
        threshold = run["predicted_batch_threshold"]
        found = f"pays from batch {threshold} on" if threshold else f"does not pay up to batch {LARGEST_BATCH}"
        say(f"drafting {found}, as predicted by {decoder.scheduler.predictor.name} with what was measured here")
    for decision in run["decisions"][-3:]:
        say(f"from round {decision['round']}: {decision['reason']}")


def _bytes_table(run: dict) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title="KB per new token, by tier", title_justify="left")
    for column in ("", "draft", "target pass", "refill"):
        table.add_column(column, justify="right" if column else "left")
    tokens = max(run["tokens"], 1)

    def cell(key: str) -> str:
        return f"{run[key] / tokens / 1e3:.1f}"

    table.add_row("HB", cell("hb_draft_bytes"), cell("hb_verify_bytes"), "")
    table.add_row("LPDDR", cell("lpddr_draft_bytes"), cell("lpddr_verify_bytes"), cell("lpddr_refill_bytes"))
    return table
