"""Layers and weights out of the bytes of a ``.keras`` file, without Keras and without running anything in it.

A ``.keras`` file is a zip archive with ``config.json`` (the graph) and ``model.weights.h5`` (the arrays). Reading it
here gives the engines that need no Keras their weights, and is the check that comes before Keras itself may open the
file: only layers of a short list are let through, so no code can hide in it.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from varstar_batch.errors import InputError, RefusedError

MAX_CONFIG_BYTES = 8 << 20
MAX_WEIGHTS_BYTES = 1 << 30
"""Bounds on the unpacked parts: a few kilobytes of zip can claim to unpack to terabytes."""

WEIGHT_NAMES: dict[str, tuple[str, ...]] = {
    "InputLayer": (),
    "Conv1D": ("kernel", "bias"),
    "BatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "Dense": ("kernel", "bias"),
    "ReLU": (),
    "Softmax": (),
    "MaxPooling1D": (),
    "AveragePooling1D": (),
    "GlobalAveragePooling1D": (),
    "GlobalMaxPooling1D": (),
    "Dropout": (),
    "GaussianNoise": (),
    "Flatten": (),
    "Concatenate": (),
    "Cropping1D": (),
    "Rescaling": (),
}
"""The layers that may stand in a bundle, each with its arrays in Keras's order."""

ACTIVATIONS = ("linear", "relu")

# What Keras would build from names inside a layer's configuration: numbers, never code.
_HARMLESS_MODULES = ("keras.initializers", "keras.regularizers", "keras.constraints")
# Damage shows wherever reading happens to stumble over it; RuntimeError is zip's encryption and endless nesting.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    RuntimeError,
)
_FIX = "use a bundle made of the layers that the documentation lists"


@dataclass(frozen=True)
class Layer:
    """One layer of a functional graph."""

    name: str
    kind: str
    """Its name in the graph and its Keras class."""
    config: dict[str, Any]
    """Keras's configuration of it."""
    inputs: tuple[str, ...]
    """Names of the layers whose outputs it takes."""
    arrays: dict[str, npt.NDArray[np.float32]]
    """Its weights by Keras's names, in Keras's shapes: channels last, kernels (width, in, out)."""


@dataclass(frozen=True)
class Network:
    """A functional graph: every layer after those it takes its inputs from."""

    layers: tuple[Layer, ...]
    inputs: tuple[str, ...]
    """Names of the input layers, in the order of the model's arguments."""
    output: str
    """Name of the layer whose output is the model's."""

    def layer(self, name: str) -> Layer:
        """Return the layer of that name."""
        return next(layer for layer in self.layers if layer.name == name)

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each input without the batch axis, channels last."""
        return tuple(tuple(self.layer(name).config["batch_shape"][1:]) for name in self.inputs)

    @property
    def n_outputs(self) -> int:
        """Width of the logits."""
        return int(self.logits_layer.config["units"])

    @property
    def logits_layer(self) -> Layer:
        """The dense layer before the final softmax."""
        return self.layer(self.layer(self.output).inputs[0])


def read_network(keras_file: bytes, *, where: str) -> Network:
    """Read the graph and its weights from the contents of a ``.keras`` file.

    Parameters
    ----------
    keras_file : bytes
    where : str
        Where it came from, for the messages.

    Raises
    ------
    InputError
        If it is not a ``.keras`` file, is damaged, or unpacks to more than the bounds above.
    RefusedError
        If it holds a layer, an activation or a graph that is not on the list.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(keras_file)) as archive:
            config = json.loads(_read_member(archive, "config.json", MAX_CONFIG_BYTES))
            weights_file = _read_member(archive, "model.weights.h5", MAX_WEIGHTS_BYTES)
        _refuse_unknown(config, where)
        arrays = _read_arrays(weights_file)
        return _build(config["config"], arrays, where)
    except _DAMAGE as error:
        raise InputError(
            expected="a .keras file of Keras 3",
            got=f"{type(error).__name__}: {error}",
            where=where,
            fix="copy the bundle again or make it anew",
        ) from None


def _read_member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    with archive.open(name) as member:
        content = member.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"{name} unpacks to more than {limit} bytes")
    return content


def _objects(value: object) -> Iterator[dict[str, Any]]:
    """Every object below `value` that names a class for Keras to build."""
    if isinstance(value, dict):
        if "class_name" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _objects(item)


def _refuse_unknown(config: dict[str, Any], where: str) -> None:
    """Refuse every class that is not on the list, wherever in the configuration Keras would find it."""
    problems = []
    for item in _objects(config):
        kind, module = item["class_name"], item.get("module")
        known = (
            (module == "keras.layers" and kind in WEIGHT_NAMES)
            or (kind == "Functional" and item is config)
            or (module == "keras" and kind == "DTypePolicy")
            or (module is None and kind == "__keras_tensor__")
            or module in _HARMLESS_MODULES
        )
        if not known or item.get("registered_name") not in {None, kind}:
            problems.append(f"{kind} of {module}")
    for layer in config["config"]["layers"]:
        activation = layer["config"].get("activation", "linear")
        if activation not in ACTIVATIONS:
            problems.append(f"activation {activation!r} in {layer['config'].get('name')}")
    if config["class_name"] != "Functional":
        problems.append(f"{config['class_name']} as the model, where only a functional one is read")
    if problems:
        raise RefusedError(
            expected=f"only the layers {', '.join(WEIGHT_NAMES)}",
            got="; ".join(sorted(set(problems))),
            where=where,
            fix=_FIX,
        )


def _read_arrays(weights_file: bytes) -> dict[str, list[npt.NDArray[np.float32]]]:
    """Return each layer's arrays by the layer's name."""
    import h5py

    arrays: dict[str, list[npt.NDArray[np.float32]]] = {}
    total = 0
    with h5py.File(io.BytesIO(weights_file), "r") as file:
        layers = file["layers"]
        for key in layers:
            group = layers[key]["vars"]
            datasets = [group[str(index)] for index in range(len(group))]
            for dataset in datasets:
                # An HDF5 file can point at other files and can declare arrays far larger than itself.
                if dataset.file != file or dataset.external or dataset.is_virtual:
                    raise ValueError(f"{dataset.name} lies outside the file")
                total += math.prod(dataset.shape) * dataset.dtype.itemsize
                if total > MAX_WEIGHTS_BYTES:
                    raise ValueError(f"the weights unpack to more than {MAX_WEIGHTS_BYTES} bytes")
            arrays[str(group.attrs["name"])] = [np.asarray(dataset[()], dtype=np.float32) for dataset in datasets]
    return arrays


def _build(model: dict[str, Any], arrays: dict[str, list[npt.NDArray[np.float32]]], where: str) -> Network:
    layers = []
    for entry in model["layers"]:
        name, kind, config = entry["config"]["name"], entry["class_name"], entry["config"]
        nodes = entry["inbound_nodes"]
        if len(nodes) > 1:
            raise RefusedError(
                expected="each layer used once", got=f"{name} used {len(nodes)} times", where=where, fix=_FIX
            )
        inputs = tuple(item["config"]["keras_history"][0] for node in nodes for item in _objects(node["args"]))
        layers.append(Layer(name, kind, config, inputs, _name_arrays(name, kind, config, arrays[name])))
    network = Network(
        tuple(layers),
        tuple(name for name, _, _ in _history_list(model["input_layers"])),
        _history_list(model["output_layers"])[0][0],
    )
    _check_graph(network, where)
    return network


def _name_arrays(
    name: str, kind: str, config: dict[str, Any], arrays: list[npt.NDArray[np.float32]]
) -> dict[str, npt.NDArray[np.float32]]:
    absent = {
        "bias": not config.get("use_bias", True),
        "gamma": not config.get("scale", True),
        "beta": not config.get("center", True),
    }
    names = [key for key in WEIGHT_NAMES[kind] if not absent.get(key, False)]
    # Dropout and noise layers keep the state of their random generator, which inference does not need.
    if names and len(names) != len(arrays):
        raise ValueError(f"{name} has {len(arrays)} arrays, expected {names}")
    return dict(zip(names, arrays, strict=False))


def _history_list(entries: list[Any]) -> list[list[Any]]:
    """Keras writes one input as [name, 0, 0] and several as a list of those."""
    return [entries] if isinstance(entries[0], str) else entries


def _check_graph(network: Network, where: str) -> None:
    known: set[str] = set()
    for layer in network.layers:
        if not known.issuperset(layer.inputs):
            raise ValueError(f"{layer.name} comes before its inputs {layer.inputs}")
        known.add(layer.name)
    last = network.layer(network.output)
    before = network.layer(last.inputs[0]) if last.inputs else last
    if (last.kind, before.kind) != ("Softmax", "Dense") or before.config.get("activation") != "linear":
        raise RefusedError(
            expected="a linear Dense layer and a Softmax layer at the end",
            got=f"{before.kind} ({before.config.get('activation')}) and {last.kind}",
            where=where,
            fix=_FIX,
        )
