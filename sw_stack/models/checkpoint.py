"""Hugging Face checkpoints: ``config.json`` and safetensors, memory-mapped, one tensor at a time.

`open_checkpoint` reads headers only and checks that every tensor which the configuration asks for is there, in the
right shape, and that nothing else is; `Checkpoint.load` decodes one tensor (BF16, FP16, FP32, MXFP4), so a model of
30 B parameters needs memory for what its user keeps, not for itself. Pickles are never loaded.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from cycle_model.numerics import Mxfp4Weights
from hw.errors import UserError
from sw_stack.models.architectures import ModelConfig, layer_tensors, tensor_shapes
from sw_stack.models.hf_config import from_hf_config
from sw_stack.models.hf_names import Location, is_ignored, location
from sw_stack.models.safetensors_file import SafetensorsFile

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
MXFP4_BLOCK = 32


def open_checkpoint(folder: Path | str) -> Checkpoint:
    """The checkpoint in ``folder``; UserError in one line where it is not complete and consistent."""
    folder = Path(folder)
    if folder.suffix in PICKLES:
        raise UserError(f"{folder}: pickles can run any code and are not read; convert to safetensors")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder with config.json and safetensors")
    config = from_hf_config(_json(folder / "config.json"), str(folder / "config.json"))
    return Checkpoint(folder, config, _shards(folder))


def _json(path: Path) -> dict:
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: must hold a JSON object, not {type(value).__name__}")
    return value


def _shards(folder: Path) -> dict[str, SafetensorsFile]:
    """Stored tensor name -> the file that holds it."""
    if not (folder / INDEX).exists():
        if not (folder / SINGLE).exists():
            pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
            if pickles:
                raise UserError(f"{folder / pickles[0]}: pickles can run any code and are not read; use safetensors")
            raise UserError(f"{folder}: holds neither {SINGLE} nor {INDEX}")
        single = SafetensorsFile(folder / SINGLE)
        return dict.fromkeys(single.tensors, single)
    index = _json(folder / INDEX).get("weight_map")
    if not isinstance(index, dict) or not all(isinstance(name, str) for name in index.values()):
        raise UserError(f"{folder / INDEX}: weight_map must map tensor names to file names")
    files: dict[str, SafetensorsFile] = {}
    for tensor, file in index.items():
        if Path(file).name != file or Path(file).suffix != ".safetensors":
            raise UserError(f"{folder / INDEX}: tensor {tensor!r} must lie in a .safetensors file here, not {file!r}")
        if file not in files:
            if not (folder / file).exists():
                raise UserError(f"{folder / file}: shard is missing; it holds tensor {tensor!r}")
            files[file] = SafetensorsFile(folder / file)
        if tensor not in files[file].tensors:
            raise UserError(f"{folder / file}: tensor {tensor!r} is missing, though {INDEX} places it here")
    for file in files.values():
        for tensor in file.tensors:
            if tensor not in index:
                raise UserError(f"{file.path}: tensor {tensor!r} is not listed in {INDEX}")
    return {tensor: files[file] for tensor, file in index.items()}


class Checkpoint:
    """A `TensorSource` over safetensors files.

    Attributes
    ----------
    config : ModelConfig
    folder : Path
    shapes : canonical name -> shape
    """

    def __init__(self, folder: Path, config: ModelConfig, stored: dict[str, SafetensorsFile]) -> None:
        self.folder, self.config, self._stored = folder, config, stored
        self.shapes = tensor_shapes(config)
        self._locations = {name: location(config, name, shape) for name, shape in self.shapes.items()}
        self._check()

    def _check(self) -> None:
        needed: set[str] = set()
        for name, at in self._locations.items():
            for stored, shape in _stored_shapes(at).items():
                if stored in needed:
                    continue
                needed.add(stored)
                if stored not in self._stored:
                    raise UserError(f"{self.folder}: tensor {stored!r} ({name}) is missing")
                file = self._stored[stored]
                found = file.tensors[stored].shape
                if found != shape:
                    raise UserError(
                        f"{file.path}: tensor {stored!r} must be of shape {list(shape)} by config.json, "
                        f"not {list(found)}"
                    )
        for stored, file in self._stored.items():
            if stored not in needed and not is_ignored(self.config, stored):
                raise UserError(
                    f"{file.path}: tensor {stored!r} is no part of the {self.config.family} model in config.json"
                )

    def load(self, name: str) -> np.ndarray | Mxfp4Weights:
        """One canonical tensor, decoded: floats of [outputs, inputs] or [n], or packed MXFP4.

        UserError naming file and tensor where values are not finite or not of the expected kind.
        """
        at = self._locations[name]
        if at.mxfp4:
            return self._mxfp4(at)
        values = self._stored[at.name].floats(at.name, at.index)
        return np.ascontiguousarray(values.T if at.transposed else values)

    def _mxfp4(self, at: Location) -> Mxfp4Weights:
        parts = []
        for stored in _stored_shapes(at):
            file = self._stored[stored]
            if file.tensors[stored].dtype != "U8":
                raise UserError(f"{file.path}: tensor {stored!r} must be U8, not {file.tensors[stored].dtype}")
            parts.append(np.array(file.raw(stored)[at.index]))
        blocks, exponents = parts
        if (exponents == 255).any():
            raise UserError(f"{file.path}: tensor {stored!r} must be finite: a scale of 255 is not a number")
        codes = np.stack([blocks & 15, blocks >> 4], axis=-1)  # the lower half of a byte is the earlier input
        return Mxfp4Weights(codes.reshape(len(blocks), -1), exponents)

    def layer_bytes(self, layer: int) -> int:
        """Stored bytes of one layer: about what loading it layer by layer keeps in memory."""
        stored: set[str] = set()
        for short in layer_tensors(self.config, layer):
            stored.update(_stored_shapes(self._locations[f"layers.{layer}.{short}"]))
        return sum(self._stored[name].tensors[name].size_bytes for name in stored)


def _stored_shapes(at: Location) -> dict[str, tuple[int, ...]]:
    """Stored tensors that make up a location, with the shapes they must have."""
    if not at.mxfp4:
        return {at.name: at.shape}
    experts, outputs, inputs = at.shape
    groups = inputs // MXFP4_BLOCK
    return {
        f"{at.name}_blocks": (experts, outputs, groups, MXFP4_BLOCK // 2),
        f"{at.name}_scales": (experts, outputs, groups),
    }
