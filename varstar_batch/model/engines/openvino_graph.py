"""From a network's layers to an OpenVINO graph, channels first: (n, channels, length).

Keras's axes are (n, length, channels). Every function below gets and gives OpenVINO outputs with the last two swapped;
tensors of rank 2, (n, width), are the same in both.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from varstar_batch.errors import RefusedError
from varstar_batch.model.bundle import ChannelRanges
from varstar_batch.model.engines.int8 import LEVELS, WEIGHT_LEVELS, steps_of
from varstar_batch.model.keras_file import Layer, Network

_OPTIONS: dict[str, dict[str, tuple[object, ...]]] = {
    "Conv1D": {
        "padding": ("valid", "same"),
        "strides": ([1],),
        "dilation_rate": ([1],),
        "groups": (1,),
        "use_bias": (True,),
    },
    "Dense": {"use_bias": (True,)},
    "MaxPooling1D": {"padding": ("valid",)},
    "AveragePooling1D": {"padding": ("valid",)},
    "GlobalAveragePooling1D": {"keepdims": (False,)},
    "GlobalMaxPooling1D": {"keepdims": (False,)},
    "ReLU": {"negative_slope": (0.0, None), "threshold": (0.0, None)},
}
"""Values of a layer's options that this translation knows: those of the networks that `networks` builds."""

FEW_CHANNELS = 4
"""Up to so many input channels a convolution costs less than moving its output: see `_Graph._pooled_convolution`."""


_CONVERTER = "openvino.tools.ovc"


class _UnsupportedError(Exception):
    """A layer, or an option of one, that this translation does not know."""


def build_graph(
    network: Network, batch: int, *, where: str, int8_ranges: Mapping[str, ChannelRanges] = MappingProxyType({})
) -> Any:
    """Build the graph that computes a network's logits for a fixed batch.

    Parameters
    ----------
    network : Network
    batch : int
        Rows of every input and of the output.
    where : str
        Where the network came from, for the message.
    int8_ranges : mapping of str to ChannelRanges
        Layers to compute in 8 bits, with what their inputs range over.

    Returns
    -------
    openvino.Model
        Inputs in the network's order, those of rank 3 as (batch, channels, length); output (batch, n_outputs).

    Raises
    ------
    RefusedError
        If a layer has an option that is not supported.
    """
    graph = _translate(network, batch, where, int8_ranges)
    inputs = [graph.outputs[name].get_node() for name in network.inputs]
    return load_openvino().Model([graph.outputs[network.logits_layer.name]], inputs, "network")


def build_inputs_graph(network: Network, batch: int, *, where: str) -> tuple[Any, list[str]]:
    """Build the graph whose outputs are the inputs of the convolutions that may be computed in 8 bits.

    Returns
    -------
    openvino.Model
        Outputs (batch, channels, length).
    list of str
        The layers that take them, in the same order.
    """
    graph = _translate(network, batch, where, {})
    inputs = [graph.outputs[name].get_node() for name in network.inputs]
    return load_openvino().Model(list(graph.taken.values()), inputs, "inputs"), list(graph.taken)


def _translate(network: Network, batch: int, where: str, int8_ranges: Mapping[str, ChannelRanges]) -> _Graph:
    graph = _Graph(network, batch, int8_ranges)
    for layer in network.layers:
        if layer.name not in graph.outputs and layer.name != network.output:
            try:
                graph.add(layer)
            except _UnsupportedError as error:
                raise RefusedError(
                    expected="a network that the openvino engine can run",
                    got=f"{layer.kind} {layer.name} with {error}",
                    where=where,
                    fix="use --engine keras for this bundle",
                ) from None
    return graph


def largest_tensor(model: Any) -> int:
    """Return the number of values of the largest result of a model's operations, weights left out."""
    results = (node.output(0) for node in model.get_ordered_ops() if node.get_type_name() not in {"Constant", "Result"})
    return max(int(np.prod(result.get_shape())) for result in results)


class _Graph:
    """The translation under way: the OpenVINO output of each layer that is done."""

    def __init__(self, network: Network, batch: int, int8_ranges: Mapping[str, ChannelRanges]) -> None:
        self.int8_ranges = int8_ranges
        self.taken: dict[str, Any] = {}
        """Inputs of the convolutions of many channels, by layer."""
        self.op = load_openvino().opset13
        self.batch = batch
        self.network = network
        self.outputs: dict[str, Any] = {}
        self.kinds: dict[str, Callable[[Layer], Any]] = {
            "InputLayer": self._input,
            "Conv1D": self._convolution,
            "BatchNormalization": self._normalization,
            "Dense": self._dense,
            "ReLU": self._relu,
            "MaxPooling1D": self._pooling,
            "AveragePooling1D": self._pooling,
            "GlobalAveragePooling1D": self._global_pooling,
            "GlobalMaxPooling1D": self._global_pooling,
            "Dropout": self._source,
            "GaussianNoise": self._source,
            "Flatten": self._flatten,
            "Concatenate": self._concatenate,
            "Cropping1D": self._cropping,
            "Rescaling": self._rescaling,
        }

    def add(self, layer: Layer) -> None:
        """Translate one layer, whose inputs are done; the layers that it is fused with become done too."""
        for option, known in {"data_format": ("channels_last", None), **_OPTIONS.get(layer.kind, {})}.items():
            if (value := layer.config.get(option)) not in known:
                raise _UnsupportedError(f"{option} {value}")
        if layer.kind not in self.kinds:
            raise _UnsupportedError("layers after it")
        self.outputs[layer.name] = self.kinds[layer.kind](layer)

    def _source(self, layer: Layer) -> Any:
        return self.outputs[layer.inputs[0]]

    def _only_consumer(self, layer: Layer, kind: str) -> Layer | None:
        """Return the layer that alone takes this one's output, if it is of that kind."""
        consumers = [other for other in self.network.layers if layer.name in other.inputs]
        return consumers[0] if len(consumers) == 1 and consumers[0].kind == kind else None

    def _input(self, layer: Layer) -> Any:
        _, *shape = layer.config["batch_shape"]
        return self.op.parameter([self.batch, *reversed(shape)], np.float32).output(0)

    def _convolution(self, layer: Layer) -> Any:
        """Translate a convolution, with the batch normalisation that follows it folded in where that is exact.

        Of y = scale * act(w * x + b) + shift the scale goes into w and b where the activation lets it through (ReLU:
        if it is positive). The shift cannot go into the *next* convolution, whose padding is not shifted; it stays an
        addition, which OpenVINO fuses into this one.
        """
        kernel = layer.arrays["kernel"].astype(np.float64)
        bias = layer.arrays["bias"].astype(np.float64)
        activation, shift, done = layer.config["activation"], None, [layer]
        following = self._only_consumer(layer, "BatchNormalization")
        if following is not None:
            scale, offset = _affine(following)
            if activation == "linear" or (scale > 0).all():
                kernel, bias, shift, done = kernel * scale, bias * scale, offset, [layer, following]
        pool = self._only_consumer(done[-1], "MaxPooling1D")
        if pool is not None and self._pools_pairs(layer, pool):
            result = self._pooled_convolution(layer, kernel, bias)
            done.append(pool)
        else:
            result = self.op.add(self._convolve(layer, kernel, 1), _channels(bias)).output(0)
        result = self._activate(result, activation)
        if shift is not None:
            result = self.op.add(result, _channels(shift)).output(0)
        for fused in done:
            self.outputs[fused.name] = result
        return result

    def _convolve(self, layer: Layer, kernel: npt.NDArray[np.float64], stride: int) -> Any:
        source, before_and_after = self._source(layer), [[each] for each in _padding(layer)]
        if self._shape(layer)[0] > FEW_CHANNELS:
            self.taken[layer.name] = source
            if layer.name in self.int8_ranges:
                source, weights = self._on_steps(layer, kernel)
                return self.op.convolution(source, weights, [stride], *before_and_after, [1]).output(0)
        weights = np.ascontiguousarray(kernel.transpose(2, 1, 0), dtype=np.float32)
        return self.op.convolution(source, weights, [stride], *before_and_after, [1]).output(0)

    def _on_steps(self, layer: Layer, kernel: npt.NDArray[np.float64]) -> tuple[Any, Any]:
        """Return a convolution's input and weights on steps of 8 bits, which OpenVINO makes integers of."""
        steps, step = steps_of(self.int8_ranges[layer.name]), self.op.fake_quantize
        low, high = _channels(steps.least * steps.scale), _channels(steps.scale)

        def quantize(value: Any) -> Any:
            return step(value, low, high, np.float32(steps.least), np.float32(1), LEVELS).output(0)

        pool = next(other for other in self.network.layers if other.name == layer.inputs[0])
        if pool.kind == "MaxPooling1D" and pool.inputs[0] in self.outputs and self._pools_nothing_fused(pool):
            # The largest of some steps is the step of the largest: a quarter of the bytes go through the pooling.
            source = self._pool(quantize(self.outputs[pool.inputs[0]]), pool)
        else:
            source = quantize(self._source(layer))
        weights = np.ascontiguousarray((kernel * steps.scale[:, None]).transpose(2, 1, 0), dtype=np.float32)
        most = np.maximum(np.abs(weights).max(axis=(1, 2), keepdims=True), np.float32(1e-30))
        return source, step(weights, -most, most, -most, most, WEIGHT_LEVELS).output(0)

    def _pools_pairs(self, layer: Layer, pool: Layer) -> bool:
        """Tell whether a convolution and the max-pooling after it are better computed as two convolutions."""
        channels, length = self._shape(layer)
        produced = length + sum(_padding(layer)) - layer.arrays["kernel"].shape[0] + 1
        pairs = (pool.config["pool_size"], pool.config["strides"]) == ([2], [2])
        return channels <= FEW_CHANNELS and pairs and produced % 2 == 0

    def _pooled_convolution(self, layer: Layer, kernel: npt.NDArray[np.float64], bias: npt.NDArray[np.float64]) -> Any:
        """Convolve and pool pairs: the convolutions at even and at odd positions, and the larger of the two.

        With few channels in and many out, writing the full output and reading it again for the pooling takes longer
        than the arithmetic: this halves it. Activations grow with their argument, so they may follow the maximum.
        """
        zero = np.zeros_like(kernel[:1])
        even = self._convolve(layer, np.concatenate([kernel, zero]), 2)
        odd = self._convolve(layer, np.concatenate([zero, kernel]), 2)
        add, offset = self.op.add, _channels(bias)
        return self.op.maximum(add(even, offset), add(odd, offset)).output(0)

    def _shape(self, layer: Layer) -> list[int]:
        """Shape of a layer's first input without the batch axis, channels first."""
        return [int(size) for size in self._source(layer).get_shape()][1:]

    def _normalization(self, layer: Layer) -> Any:
        scale, shift = _affine(layer)
        wrap = _channels if len(self._shape(layer)) == 2 else _row
        return self.op.add(self.op.multiply(self._source(layer), wrap(scale)), wrap(shift)).output(0)

    def _dense(self, layer: Layer) -> Any:
        if len(self._shape(layer)) != 1:
            raise _UnsupportedError("an input that is not flat")
        result = self.op.matmul(self._source(layer), np.ascontiguousarray(layer.arrays["kernel"]), False, False)
        return self._activate(self.op.add(result, _row(layer.arrays["bias"])).output(0), layer.config["activation"])

    def _activate(self, value: Any, activation: str) -> Any:
        return self.op.relu(value).output(0) if activation == "relu" else value

    def _relu(self, layer: Layer) -> Any:
        if (highest := layer.config["max_value"]) is None:
            return self._activate(self._source(layer), "relu")
        return self.op.clamp(self._source(layer), 0.0, float(highest)).output(0)

    def _pools_nothing_fused(self, pool: Layer) -> bool:
        """Tell whether a pooling was translated by itself, not within the convolution before it."""
        return self.outputs[pool.name] is not self.outputs[pool.inputs[0]]

    def _pooling(self, layer: Layer) -> Any:
        return self._pool(self._source(layer), layer)

    def _pool(self, source: Any, layer: Layer) -> Any:
        (width,), (stride,) = layer.config["pool_size"], layer.config["strides"]
        if layer.kind == "MaxPooling1D":
            return self.op.max_pool(source, [stride], [1], [0], [0], [width]).output(0)
        return self.op.avg_pool(source, [stride], [0], [0], [width], True).output(0)

    def _global_pooling(self, layer: Layer) -> Any:
        reduce = self.op.reduce_mean if layer.kind == "GlobalAveragePooling1D" else self.op.reduce_max
        return reduce(self._source(layer), np.array([2]), False).output(0)

    def _flatten(self, layer: Layer) -> Any:
        """Flatten in Keras's order, channels fastest, so that the dense weights fit as they are."""
        source = self._source(layer)
        if len(self._shape(layer)) == 2:
            source = self.op.transpose(source, np.array([0, 2, 1]))
        return self.op.reshape(source, np.array([self.batch, -1]), False).output(0)

    def _concatenate(self, layer: Layer) -> Any:
        sources = [self.outputs[name] for name in layer.inputs]
        rank = len(sources[0].get_shape())
        axis = layer.config["axis"] % rank
        # Swapped axes: of (0, 1, 2) the last two change places, of (0, 1) none.
        return self.op.concat(sources, axis if rank == 2 else (0, 2, 1)[axis]).output(0)

    def _cropping(self, layer: Layer) -> Any:
        before, after = layer.config["cropping"]
        _, length = self._shape(layer)
        start, stop = np.array([before]), np.array([length - after])
        return self.op.slice(self._source(layer), start, stop, np.array([1]), np.array([2])).output(0)

    def _rescaling(self, layer: Layer) -> Any:
        scale, offset = np.float32(layer.config["scale"]), np.float32(layer.config["offset"])
        return self.op.add(self.op.multiply(self._source(layer), scale), offset).output(0)


def _affine(layer: Layer) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return (scale, shift), float64 (channels,), of a batch normalisation with its stored moments."""
    arrays = {name: array.astype(np.float64) for name, array in layer.arrays.items()}
    scale = arrays.get("gamma", 1.0) / np.sqrt(arrays["moving_variance"] + layer.config["epsilon"])
    return scale, arrays.get("beta", 0.0) - arrays["moving_mean"] * scale


def _padding(layer: Layer) -> tuple[int, int]:
    """Return how many zeros a convolution puts before and after its input."""
    total = layer.arrays["kernel"].shape[0] - 1 if layer.config["padding"] == "same" else 0
    return total // 2, total - total // 2


def _channels(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return values.astype(np.float32)[None, :, None]


def _row(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    return values.astype(np.float32)[None, :]


def load_openvino() -> ModuleType:
    """Import OpenVINO.

    Its package also imports its converter of models, if that can be imported, which nothing here needs: it takes as
    long again, starts a thread that sends the import to a statistics service, and writes an identifier into the user's
    home.
    """
    modules: dict[str, Any] = sys.modules
    held_back = _CONVERTER not in modules
    if held_back:
        modules[_CONVERTER] = None  # as Python's documentation has it: the import fails
    try:
        import openvino
    finally:
        if held_back:
            del modules[_CONVERTER]
    module: ModuleType = openvino
    return module
