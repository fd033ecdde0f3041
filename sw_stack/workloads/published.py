"""Published and publicly measured routing statistics of the four models, each with source and kind.

``low`` and ``high`` are equal where one number is given. Kinds: "measured" are statistics of public traces
(GPT-OSS-20B: AmanPriyanshu/GPT-OSS-MoE-ExpertFingerprinting @ 72b368f6, Apache-2.0, 144,763 decode tokens;
DeepSeek-V2-Lite: 51 k prefill tokens; Qwen3-30B-A3B: two single-layer batch snapshots), "paper" were printed in
papers on the model.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One statistic: its range, the kind of source and the source."""

    low: float
    high: float
    kind: str
    source: str

    @property
    def middle(self) -> float:
        """Middle of the range: what a generator is fitted to."""
        return (self.low + self.high) / 2

    def __str__(self) -> str:
        return f"{self.low:g}" if self.low == self.high else f"{self.low:g}-{self.high:g}"


_GPT_OSS = "public decode trace, 144,763 tokens, AmanPriyanshu/GPT-OSS-MoE-ExpertFingerprinting @ 72b368f6"
_DEEPSEEK = "public prefill trace of DeepSeek-V2-Lite, 51 k tokens"
_QWEN_SNAPSHOT = "two single-layer batch snapshots of Qwen3-30B-A3B"
_QWEN_PAPER = "published routing statistics of Qwen3-30B-A3B"


def _all(kind: str, source: str, **values: float | tuple[float, float]) -> dict[str, Published]:
    pairs = {name: value if isinstance(value, tuple) else (value, value) for name, value in values.items()}
    return {name: Published(*pair, kind, source) for name, pair in pairs.items()}


PUBLISHED: dict[str, dict[str, Published]] = {
    "gpt-oss-20b": _all(
        "measured",
        _GPT_OSS,
        zipf_pooled=0.58,
        zipf_within=0.94,
        entropy_pooled=0.917,
        entropy_within=0.814,
        top_share_within=0.431,
        reuse_lag_1=0.440,
        reuse_lag_8=0.348,
        reuse_lag_64=0.322,
        unique_consecutive_4=9.4,
        unique_consecutive_8=13.0,
        unique_consecutive_16=16.5,
        unique_across_4=12.1,
        unique_across_8=17.9,
        unique_across_16=23.1,
        reuse_first_layer=0.20,
        reuse_best_layer=0.60,
    ),
    "deepseek-v2-lite": _all(
        "measured",
        _DEEPSEEK,
        zipf_pooled=0.18,
        zipf_within=0.52,
        entropy_pooled=0.994,
        entropy_within=0.939,
        top_share_within=0.307,
        reuse_lag_1=0.260,
        reuse_lag_8=0.163,
        reuse_lag_64=0.141,
        unique_consecutive_4=17.3,
        unique_consecutive_8=27.5,
        unique_consecutive_16=39.6,
        unique_across_4=20.6,
        unique_across_8=34.1,
        unique_across_16=49.7,
        reuse_first_layer=0.13,
        reuse_best_layer=0.33,
    ),
    "qwen3-30b-a3b": {
        **_all("measured", _QWEN_SNAPSHOT, zipf_pooled=(0.81, 1.40), unique_across_16=(38.0, 43.0)),
        **_all(
            "paper",
            _QWEN_PAPER,
            entropy_pooled=(0.85, 0.89),
            entropy_within=(0.62, 0.81),
            top_share_within=(0.545, 0.62),
            reuse_lag_1=0.427,
            reuse_first_layer=0.08,
            reuse_best_layer=0.58,
        ),
    },
    "glm-4.7-flash": {},
}
"""Model -> statistic -> value; an absent statistic is unknown (nothing is published for GLM-4.7-Flash)."""

REUSE_BY_DEPTH: dict[str, tuple[tuple[float, float], ...]] = {
    "gpt-oss-20b": ((0.0, 0.20), (0.5, 0.60)),
    "deepseek-v2-lite": ((0.0, 0.13), (0.5, 0.33)),
    "qwen3-30b-a3b": ((0.0, 0.08), (6 / 47, 0.56), (18 / 47, 0.56), (31 / 47, 0.58), (1.0, 0.21)),
}
"""Lag-1 reuse at points of relative depth (0 first MoE layer, 1 last); sources as above."""
