"""Real text for a report: the shipped model decodes prompts with Elastic-SD, checked token for token against plain
decoding; both run the bit-exact arithmetic of the proposed machine."""

from __future__ import annotations

from pathlib import Path

from hw.errors import UserError
from sw_stack.elastic.methods import HotSetChoice, make_decoder
from sw_stack.elastic.rounds import Speculation
from sw_stack.elastic.tree import TreeShape
from sw_stack.models.checkpoint import open_checkpoint
from sw_stack.models.quantized_model import QuantizedModel
from sw_stack.models.runtime import Runtime
from sw_stack.models.sampling import SamplingConfig
from sw_stack.models.tokenizer import TextTokenizer

MODEL = Path(__file__).parent.parent / "data" / "elmoe-8m"
PROMPTS = ("KING HENRY.\n", "def read(self, ", "The old man looked at ", "Return the number of ")
TREE = TreeShape(5)


def sample_text(tokens: int = 48, threads: int = 2, model: Path = MODEL) -> dict:
    """The note ``text`` of a report: what was decoded and how, and the samples.

    Raises UserError where Elastic-SD gave other tokens than plain decoding: that would be a defect of this project.
    """
    source = open_checkpoint(model)
    tokenizer = TextTokenizer(model, source.config.vocab)
    prompts = [tokenizer.encode(prompt) for prompt in PROMPTS]
    runtime = Runtime(QuantizedModel(source), threads=threads)
    produced, decoder = {}, None
    for method in ("none", "elastic"):
        decoder = make_decoder(
            runtime,
            method,
            Speculation(TREE, "always", "follow"),
            HotSetChoice(),
            batch=len(prompts),
            positions=sum(len(ids) + tokens for ids in prompts),
            threads=threads,
        )
        out: list[list[int]] = [[] for _ in prompts]
        for step in decoder.decode(prompts, tokens, SamplingConfig(), 0):
            out[step.sequence] += step.tokens
        produced[method] = out
    if produced["none"] != produced["elastic"]:
        raise UserError(f"Elastic-SD on {model.name} must give the tokens of plain decoding; it did not")
    count = sum(map(len, produced["elastic"]))
    statistics = decoder.statistics
    length = statistics.tokens / max(statistics.rounds, 1)
    return {
        "note": (
            f"{model.name}, {len(prompts)} prompts, {count} tokens with Elastic-SD ({TREE}, half of the experts"
            f" resident), accept length {length:.2f}; all {count} tokens are those of plain decoding."
        ),
        "samples": [prompt + tokenizer.decode(ids) for prompt, ids in zip(PROMPTS, produced["elastic"], strict=True)],
    }
