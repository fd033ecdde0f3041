"""The steps of ``elmoe3d trace capture``: read the texts, say what it takes, load the model, run it."""

from pathlib import Path

from hw.errors import UserError

ENGINES = ("runtime", "transformers")
FLOAT_BELOW = 1 << 30
"""Stored bytes below which transformers runs in float32, for routing without rounding."""


def _sequences(tokenizer, texts: list[Path], length: int, most: int) -> tuple[list[list[int]], list[str]]:
    """Token ids of the texts' leading pieces of ``length`` tokens, and the domain of each."""
    pieces, domains = [], []
    for path in texts:
        try:
            ids = tokenizer.encode(path.read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read as text: {error}") from error
        whole = [ids[i : i + length] for i in range(0, len(ids) - length + 1, length)][:most]
        if not whole:
            raise UserError(f"{path}: must have at least {length} tokens, not {len(ids)}")
        pieces += whole
        domains += [path.stem] * len(whole)
    return pieces, domains


def capture_folder(folder: Path, texts: list[Path], engine: str, length: int, most: int, licence: str, quiet: bool):
    """The trace of ``texts`` through the model in ``folder``."""
    import json

    from sw_stack.models.architectures import layer_matrices
    from sw_stack.models.checkpoint import open_checkpoint
    from sw_stack.models.tokenizer import TextTokenizer
    from sw_stack.reports.terminal import console
    from sw_stack.workloads.capture import capture_runtime, capture_transformers, estimate

    if engine not in ENGINES:
        raise UserError(f"--engine must be runtime or transformers, not {engine!r}")
    if length < 1 or most < 1:
        raise UserError(f"--sequence and --sequences must be at least 1, not {length!r} and {most!r}")
    if engine == "transformers":
        try:
            import torch
            from transformers import AutoModelForCausalLM
        except ImportError as error:
            raise UserError(f"--engine transformers needs {error.name}: pip install -e .[verify]") from error
        try:
            vocab = json.loads((folder / "config.json").read_text())["vocab_size"]
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{folder / 'config.json'}: must be a configuration with vocab_size: {error}") from error
        stored = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        active = stored // 2  # of BF16 weights, as if all were used: an upper bound where the family is unknown
        in_float = stored < FLOAT_BELOW
        stored *= 2 if in_float else 1
    else:
        checkpoint = open_checkpoint(folder)
        config, vocab = checkpoint.config, checkpoint.config.vocab
        stored = sum(checkpoint.layer_bytes(i) for i in range(config.layers))
        per_layer = sum(
            rows * columns * (config.top_k if name.startswith("experts.") else 1)
            for name, (rows, columns) in layer_matrices(config).items()
        )
        active = per_layer * config.layers
    pieces, domains = _sequences(TextTokenizer(folder, vocab), texts, length, most)
    needs = estimate(stored, active, sum(map(len, pieces)))
    console(quiet).print(f"capture: {len(pieces)} sequences of {length} tokens, {needs}", markup=False)
    if needs.weight_bytes > needs.available_bytes:
        raise UserError(f"{folder}: {needs}: not enough memory")
    names = ", ".join(path.name for path in texts)
    about = {"source": f"elmoe3d trace capture, {engine}: {names}", "licence": licence}
    if engine == "transformers":
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32 if in_float else "auto")
        return capture_transformers(model.eval(), pieces, domains, name=folder.resolve().name, **about)

    from sw_stack.models.quantized_model import QuantizedModel
    from sw_stack.models.runtime import Runtime

    runtime = Runtime(QuantizedModel(checkpoint))
    return capture_runtime(runtime, pieces, domains, model=folder.resolve().name, **about)
