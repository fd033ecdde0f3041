"""``elmoe3d generate`` with drafting methods: same text, plausible figures, one line for every mistake."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from sw_stack.commands.generate_command import DEFAULT_MODEL
from sw_stack.commands.main import main
from sw_stack.elastic.methods import METHODS, available_methods
from verification.stack.elastic_models import write_models
from verification.stack.lossless_run import LosslessRun, batches

SHIPPED = [DEFAULT_MODEL] if (DEFAULT_MODEL / "model.safetensors").exists() else []
"""The shipped model, in the list of models to test once its weights are there."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random target with both draft models beside it."""
    return write_models(tmp_path_factory.mktemp("models"))


def generate(capsys: pytest.CaptureFixture, model: Path, *arguments: object, status: int = 0) -> str:
    """What the command printed; a mistake's one line."""
    with pytest.raises(SystemExit) as stop:
        main(["generate", "--model", str(model), *map(str, arguments)])
    captured = capsys.readouterr()
    assert stop.value.code == status, captured.err
    if status:
        assert captured.err.count("\n") == 1
        assert captured.out == ""
        return captured.err
    return captured.out


@pytest.mark.parametrize("batch", [1, 3])
def test_every_method_prints_the_same_text(tiny: Path, capsys: pytest.CaptureFixture, batch: int) -> None:
    """Greedy and sampled, alone and in a batch, with every tree and mode tried here."""
    request = ("--prompt", "To be, or", "--prompt", "def f(", "--batch", batch, "--tokens", 14, "--quiet")
    for sampling in ((), ("--temperature", 0.9, "--top-p", 0.9, "--seed", 4)):
        plain = generate(capsys, tiny, *request, *sampling)
        assert "To be, or" in plain
        for method in METHODS[1:]:
            for options in (
                ("--mode", "always"),
                ("--tree", "2x3", "--mode", "adaptive", "--resident", 0.25, "--dense-draft", "full"),
            ):
                found = generate(capsys, tiny, *request, *sampling, "--method", method, *options)
                assert sorted(found.splitlines()) == sorted(plain.splitlines())


@pytest.mark.parametrize("method", METHODS)
def test_figures_are_printed_and_written(
    tiny: Path, capsys: pytest.CaptureFixture, tmp_path: Path, method: str
) -> None:
    """Text first, then the figures; those of the JSON are the printed ones, and add up."""
    path = tmp_path / "run.json"
    printed = generate(
        capsys, tiny, "--prompt", "Once", "--batch", 2, "--tokens", 12, "--method", method, "--tree", "3",
        "--mode", "always", "--json", path,
    )  # fmt: skip
    run = json.loads(path.read_text())
    assert printed.index("Once") < printed.index(f"method {method}")
    assert f"{run['experts_touched_per_layer_and_pass']:.1f} of 8" in printed
    assert f"{100 * run['cache_hit_rate']:.1f} %" in printed
    assert f"{run['lpddr_verify_bytes'] / run['tokens'] / 1e3:.1f}" in printed
    assert run["tokens"] == 22 and run["new_tokens"] == 24  # the first token of each comes from prefill
    assert run["resident_experts_per_layer"] == 4
    if method == "none":
        assert run["acceptance_by_position"] == []
        return
    assert f"{run['accept_length']:.2f} tokens per draft" in printed
    tried = run["tried_by_position"]
    assert tried == sorted(tried, reverse=True) and tried[0] > 0
    assert (run["router_mass_covered"] < 1) is (method == "elastic")
    assert (run["lpddr_draft_bytes"] > 0) is (method == "quant")


def test_what_was_not_measured_is_not_zero(tiny: Path, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    """One token comes from prefill alone: no acceptance, no hits, and it says so; two leave nothing to draft."""
    path = tmp_path / "run.json"
    request = ("--prompt", "Once", "--method", "elastic", "--json", path)
    assert "no target pass to account" in generate(capsys, tiny, *request, "--tokens", 1)
    run = json.loads(path.read_text())
    unknown = ("accept_length", "cache_hit_rate", "router_mass_covered", "predicted_batch_threshold")
    assert [run[key] for key in unknown] == [None] * 4
    assert run["acceptance_by_position"] == [None] * 5
    assert "acceptance" not in generate(capsys, tiny, *request, "--tokens", 2).split("from round 1")[0]
    assert json.loads(path.read_text())["cache_hit_rate"] is not None


def test_keys_and_values_take_hb_before_experts(tiny: Path, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    """Less HB, other figures, same text: room for all experts; for keys and values alone; for part of them only,
    where the oldest spill and each pass reads them from LPDDR."""
    path, runs = tmp_path / "run.json", []
    request = ("--prompt", "Once", "--prompt", "def f", "--tokens", 12, "--method", "elastic", "--json", path)
    for kept in (None, 1, 0.5):  # of the keys and values of the first run
        hb_mb = 1 if kept is None else (runs[0][1]["hb_dense_bytes"] + kept * runs[0][1]["hb_kv_bytes"]) / 1e6
        printed = generate(capsys, tiny, *request, "--hb-mb", hb_mb)
        run = json.loads(path.read_text())
        assert f"keys and values {run['hb_kv_bytes'] / 1e6:.3f} MB" in printed
        assert ("MB of the oldest positions to LPDDR" in printed) is (run["kv_spilled_bytes"] > 0)
        assert run["hb_dense_bytes"] + run["hb_kv_bytes"] + run["hb_expert_bytes"] <= round(hb_mb * 1e6)
        runs.append((printed.split("\n\n")[0], run))
    (text, most), (same, less), (again, least) = runs
    assert text == same == again
    assert [run["resident_experts_per_layer"] for _, run in runs] == [8, 0, 0]
    assert most["kv_spilled_bytes"] == less["kv_spilled_bytes"] == 0 < least["kv_spilled_bytes"]
    assert most["hb_kv_bytes"] == less["hb_kv_bytes"] == least["hb_kv_bytes"] + least["kv_spilled_bytes"]
    assert least["lpddr_verify_bytes"] > less["lpddr_verify_bytes"]


def test_a_batch_threshold_is_decided_by_predicted_time(tiny: Path, capsys: pytest.CaptureFixture) -> None:
    """With few residents in auto mode: AR is offered, and the reason of a decision names both predicted times."""
    printed = generate(capsys, tiny, "--prompt", "Once", "--tokens", 40, "--method", "elastic", "--resident", 0.125)
    assert "holds 1 experts, fewer than top-2: AR offered" in printed
    assert re.search(r"from round 5: AR at batch 1: [\d.]+ us per token predicted by roofline of 4gb", printed)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--method", "elastik"), "unknown method 'elastik'; did you mean elastic?"),
        (("--tree", "0x0"), "tree must be depth x width"),
        (("--tree", "deep"), "tree must be DEPTH or DEPTHxWIDTH"),
        (("--resident", "1.2"), "resident fraction must be 0 to 1, not 1.2"),
        (("--resident", "0.5", "--hb-mb", "1"), "give resident or hb-mb, not both"),
        (("--hb-mb", "-1"), "hb-mb must be 0 to 1e9, not -1.0"),
        (("--hb-mb", "0.01"), "HB must hold at least the dense weights of "),
        (("--resident", "nan"), "resident fraction must be 0 to 1, not nan"),
        (("--hot-set", "warm"), "unknown hot set policy 'warm'"),
        (("--allocation", "lsb-only"), "unknown allocation 'lsb-only'"),
        (("--mode", "sometimes"), "unknown mode 'sometimes'"),
        (("--rule", "accept"), "rule must be one of follow, reject, not 'accept'"),
        (("--dense-draft", "lsb"), "dense-draft must be msb or full, not 'lsb'"),
        (("--chip", "5gb"), "unknown chip '5gb'"),
        (("--method", "slm", "--draft-model", "/nowhere"), "/nowhere: no such folder"),
        (("--method", "eagle", "--draft-model", "/nowhere"), "/nowhere/config.json: no such file"),
        (("--batch", "100"), "batch must be 0 to 64, not 100"),
    ],
)
def test_mistakes_give_one_line(tiny: Path, capsys: pytest.CaptureFixture, arguments: tuple, line: str) -> None:
    """Exit status 2, before anything is printed."""
    assert line in generate(capsys, tiny, "--prompt", "x", "--tokens", 4, *arguments, status=2)


def test_a_wrong_head_is_refused(tiny: Path, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    """A missing tensor, a wrong shape, another model's configuration: file and tensor are named."""
    head = tiny.parent / "tiny-draft-eagle"
    tensors = load_file(head / "model.safetensors")
    config = json.loads((head / "config.json").read_text())

    def attempt(changed: dict, values: dict) -> str:
        save_file(changed, tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text(json.dumps(values))
        arguments = ("--prompt", "x", "--tokens", 4, "--method", "eagle", "--draft-model", tmp_path)
        return generate(capsys, tiny, *arguments, status=2)

    assert "tensor 'fc.weight' is missing" in attempt({k: v for k, v in tensors.items() if k != "fc.weight"}, config)
    fused = tensors["fc.weight"]
    assert "'fc.weight' must be of shape (64, 128)" in attempt(tensors | {"fc.weight": fused[:, :64].copy()}, config)
    assert "model_type must be 'elmoe_eagle'" in attempt(tensors, config | {"model_type": "qwen3"})
    assert "must be one dense layer" in attempt(tensors, config | {"vocab_size": 512})


def test_the_small_model_must_share_the_vocabulary(tiny: Path, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    """Another vocabulary is refused by name."""
    folder = tiny.parent / "tiny-draft-dense"
    tensors = load_file(folder / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = tensors[name][:512].copy()
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(
        json.dumps(json.loads((folder / "config.json").read_text()) | {"vocab_size": 512})
    )
    arguments = ("--prompt", "x", "--tokens", 4, "--method", "slm", "--draft-model", tmp_path)
    assert "must have the target's vocabulary of 1024, not 512" in generate(capsys, tiny, *arguments, status=2)


@pytest.mark.parametrize("model", [None, *SHIPPED], ids=lambda model: model.name if model else "random")
def test_the_lossless_run_compares_resumes_and_notices(
    model: Path | None, tiny: Path, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    """40 real-text prompts per method and none differs; again, nothing is decoded; a changed result is reported."""
    folder = model or tiny
    methods = available_methods(folder)

    def run() -> tuple[int, str]:
        differing = LosslessRun(folder, methods, 40, 8, 1, tmp_path / "lossless").run()
        return differing, capsys.readouterr().out

    differing, printed = run()
    assert differing == 0
    assert f"compared {40 * len(methods)} sequences of 8 tokens" in printed
    differing, printed = run()
    assert differing == 0 and "0 batches now" in printed
    kept = sorted((tmp_path / "lossless").glob("elastic-*.json"))[3]
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"differing": [4]}))
    differing, printed = run()
    assert differing == 1 and "DIFFERS: method elastic, prompt 4" in printed


def test_lossless_batches_cover_every_size() -> None:
    """1 000 prompts: every prompt once, sizes 1 to 16 each at least twice."""
    cut = batches(1000)
    assert [first for first, _ in cut] == [sum(size for _, size in cut[:i]) for i in range(len(cut))]
    assert sum(size for _, size in cut) == 1000
    assert all([size for _, size in cut].count(size) >= 2 for size in range(1, 17))
