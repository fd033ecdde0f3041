"""Bad checkpoints: one line that names file and tensor, exit status 2, and nothing unpickled."""

import json
import pickle
import shutil
import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from hw.errors import UserError
from sw_stack.models.checkpoint import INDEX, open_checkpoint
from sw_stack.models.safetensors_file import SafetensorsFile
from verification.golden.make_golden import FOLDER

SHARDED, SINGLE = "qwen3_moe", "deepseek_v2"
Q = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture
def model(tmp_path):
    """A writable copy of a golden checkpoint, by name."""

    def copy(name):
        return shutil.copytree(FOLDER / name, tmp_path / name)

    return copy


def _edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _edit_tensors(folder, edit):
    """Rewrite the single-file checkpoint with changed tensors."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


def _refused(folder, *parts, load=None):
    """The checkpoint is refused in one line that holds all of ``parts``."""
    with pytest.raises(UserError) as caught:
        checkpoint = open_checkpoint(folder)
        for name in checkpoint.shapes if load is None else [load]:
            checkpoint.load(name)
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in parts), message


def test_missing_shard(model):
    """A shard that the index names but that is not there is named, with a tensor that it should hold."""
    folder = model(SHARDED)
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    shard.unlink()
    _refused(folder, str(shard), "shard is missing", "model.layers.")


@pytest.mark.parametrize("keep", [0, 7, 8, 100, -1])
def test_truncated_shard(model, keep):
    """A shard cut anywhere (in the length, in the header, one byte short) is called truncated."""
    folder = model(SHARDED)
    shard = sorted(folder.glob("model-*.safetensors"))[0]
    shard.write_bytes(shard.read_bytes()[:keep])
    _refused(folder, str(shard), "truncated")


def test_tensor_in_another_shard(model):
    """An index that places a tensor in the wrong shard is refused, and so is a shard with a tensor it does not list."""
    folder = model(SHARDED)
    index = json.loads((folder / INDEX).read_text())
    files = sorted(set(index["weight_map"].values()))
    index["weight_map"][Q] = next(file for file in files if file != index["weight_map"][Q])
    (folder / INDEX).write_text(json.dumps(index))
    _refused(folder, Q, "is missing")
    del index["weight_map"][Q]
    (folder / INDEX).write_text(json.dumps(index))
    _refused(folder, Q, "not listed")


def test_index_out_of_the_folder(model):
    """An index cannot point elsewhere."""
    folder = model(SHARDED)
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"][Q] = "../model.safetensors"
    (folder / INDEX).write_text(json.dumps(index))
    _refused(folder, INDEX, Q)


def test_missing_and_unknown_tensors(model):
    """A tensor too few or too many is named."""
    folder = model(SINGLE)
    _edit_tensors(folder, lambda t: t.pop(Q))
    _refused(folder, Q, "missing")
    folder = shutil.copytree(FOLDER / SINGLE, folder.parent / "more")
    _edit_tensors(folder, lambda t: t.update({"model.layers.0.extra.weight": np.zeros(3, np.float16)}))
    _refused(folder, "model.safetensors", "model.layers.0.extra.weight", "no part of")


def test_wrong_shape(model):
    """A transposed or cut tensor is named with both shapes."""
    folder = model(SINGLE)
    _edit_tensors(folder, lambda t: t.update({Q: t[Q][:-1].copy()}))
    _refused(folder, "model.safetensors", Q, "[96, 64]", "[95, 64]")


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"hidden_size": 96}, ("model.embed_tokens.weight", "[96, 96]")),
        ({"n_routed_experts": 5}, ("mlp.gate.weight", "[5, 64]")),
        ({"num_hidden_layers": 4}, ("model.layers.3.", "missing")),
        ({"num_hidden_layers": 2}, ("model.layers.2.", "no part of")),
        ({"q_lora_rank": 32}, ("q_a_proj", "missing")),
        ({"model_type": "mamba"}, ("config.json", "unknown model_type 'mamba'", "known")),
        ({"num_experts_per_tok": 7}, ("config.json", "top_k")),
        ({"hidden_size": "64"}, ("config.json", "hidden_size")),
    ],
)
def test_configuration_disagrees(model, changes, parts):
    """A configuration that is not the tensors' is refused by the first tensor that shows it."""
    folder = model(SINGLE)
    _edit_config(folder, **changes)
    _refused(folder, *parts)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(model, value):
    """A weight that is not a number is found when its tensor is loaded."""
    folder = model(SINGLE)

    def spoil(tensors):
        tensors[Q][3, 5] = value

    _edit_tensors(folder, spoil)
    _refused(folder, "model.safetensors", Q, "finite", load="layers.0.q")


def test_mxfp4_scale_not_a_number(model):
    """E8M0 255 is not a number and is named."""
    folder = model("gpt_oss")
    index = json.loads((folder / INDEX).read_text())
    stored = "model.layers.0.mlp.experts.down_proj_scales"
    shard = folder / index["weight_map"][stored]
    bits = bytearray(shard.read_bytes())
    bits[SafetensorsFile(shard).tensors[stored].start] = 255
    shard.write_bytes(bytes(bits))
    _refused(folder, str(shard), stored, "255", load="layers.0.experts.0.down")


def test_fp8_is_refused(model):
    """FP8 weights are refused by name, not decoded as something else."""
    folder = model(SINGLE)
    path = folder / "model.safetensors"
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    first, last = header[Q]["data_offsets"]
    header[Q] |= {"dtype": "F8_E4M3", "shape": [96, 128]}
    assert last - first == 96 * 128
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    _refused(folder, "model.safetensors", Q, "F8_E4M3")


class _Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickles_are_never_loaded(tmp_path, file):
    """A folder with pickles, or a pickle itself, is refused without being opened."""
    shutil.copy(FOLDER / SINGLE / "config.json", tmp_path)
    (tmp_path / file).write_bytes(pickle.dumps(_Bomb()))
    _refused(tmp_path, file, "pickle")
    _refused(tmp_path / file, file, "pickle")


def test_absent_things(tmp_path):
    """No folder, no configuration and no weights each say so."""
    _refused(tmp_path / "nowhere", "nowhere", "no such folder")
    _refused(tmp_path, "config.json", "no such file")
    shutil.copy(FOLDER / SINGLE / "config.json", tmp_path)
    _refused(tmp_path, "neither")


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_any_damage_is_a_user_error(tmp_path_factory, data):
    """Random damage to a header gives a checkpoint that opens or one line, never another exception."""
    folder = tmp_path_factory.mktemp("damaged")
    shutil.copytree(FOLDER / SINGLE, folder, dirs_exist_ok=True)
    path = folder / "model.safetensors"
    bits = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", bits[:8])
    for _ in range(data.draw(st.integers(1, 4))):
        bits[data.draw(st.integers(0, 7 + length))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(bits))
    try:
        open_checkpoint(folder)
    except UserError as error:
        assert "\n" not in " ".join(str(error).split())


def test_bf16_decodes_as_ml_dtypes_says(tmp_path):
    """Every finite BF16 pattern has the value that ml_dtypes gives it."""
    patterns = np.arange(1 << 16, dtype=np.uint16)
    patterns = patterns[(patterns & 0x7F80) != 0x7F80]
    header = json.dumps({"x": {"dtype": "BF16", "shape": [len(patterns)], "data_offsets": [0, patterns.nbytes]}})
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + patterns.tobytes())
    found = SafetensorsFile(path).floats("x")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, patterns.view(ml_dtypes.bfloat16).astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8, np.int64])
def test_reads_what_safetensors_writes(tmp_path, dtype):
    """Files of the reference implementation give the same bits here."""
    rng = np.random.default_rng(3)
    tensors = {"a": (100 * rng.random((5, 7))).astype(dtype), "b": (100 * rng.random(3)).astype(dtype)}
    save_file(tensors, tmp_path / "x.safetensors")
    file = SafetensorsFile(tmp_path / "x.safetensors")
    for name, expected in tensors.items():
        np.testing.assert_array_equal(file.raw(name), expected)
