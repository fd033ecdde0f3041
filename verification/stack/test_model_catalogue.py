"""Published models: the dimensions give the advertised parameter counts."""

import math

import pytest

from hw.errors import UserError
from sw_stack.models.architectures import tensor_shapes
from sw_stack.models.catalogue import model, models

SUPPORTED = {
    "deepseek-v2-lite",
    "glm-4.5-air",
    "glm-4.7-flash",
    "gpt-oss-120b",
    "gpt-oss-20b",
    "qwen3-235b-a22b",
    "qwen3-30b-a3b",
}
ADVERTISED = {"qwen3-30b-a3b": 30.5e9, "glm-4.7-flash": 29.9e9, "deepseek-v2-lite": 15.7e9, "gpt-oss-20b": 20.9e9}


@pytest.mark.parametrize("name", sorted(SUPPORTED))
def test_canonical_tensors_add_up(name):
    """The tensors that loader and runtime expect of a published configuration add up to its parameter count."""
    entry = model(name)
    total = sum(math.prod(shape) for shape in tensor_shapes(entry.architecture()).values())
    # Routers' correction terms, which no published count includes, are the only tensors on one side.
    correction = entry.dimensions["moe"]["num_experts"] * entry.dimensions["moe"]["moe_layers"]
    assert total - entry.params["total"] in (0, correction)


@pytest.mark.parametrize(("name", "total"), ADVERTISED.items())
def test_advertised_totals(name, total):
    """The four models of the paper have the totals that their makers print."""
    assert model(name).params["total"] == pytest.approx(total, rel=0.003)


def test_all_models_are_listed_with_sources():
    """Nineteen models, each with a source, and experts whose slices can be sized."""
    assert len(models()) == 19
    for entry in models().values():
        assert entry.source["source"] and entry.source["exactness"]
        assert entry.expert_slices().whole_bytes > 0


def test_other_families_say_so():
    """A published model of a family that is not implemented is refused by name, an unknown one with the nearest."""
    with pytest.raises(UserError, match="model mixtral-8x7b: unknown model_type"):
        model("mixtral-8x7b").architecture()
    with pytest.raises(UserError, match="did you mean gpt-oss-20b"):
        model("gpt-oss-20")
