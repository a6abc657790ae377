"""The three ONNX graphs of a captioner, written layer by layer from its Keras networks.

encoder: images (B, H, W, 3), 0 to 255 -> grid (B, L, D). start: grid, where (B, L) -> the state before the first word.
step: tokens (B, R), state -> log_probs (B, R, V), hidden_out and cell_out (B, R, U), attention (B, R, L).
Between its layers the encoder has channels first, as ONNX wants them. A further language has a start and a step of its
own: the layers that it changes add the product of two narrow matrices (see decoder/languages.py).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from captioning.errors import CaptioningError

if TYPE_CHECKING:
    import keras
    import onnx
    from keras.layers import Layer
    from numpy.typing import ArrayLike

    from captioning.decoder.model import CaptionModel

OPSET, IR_VERSION = 18, 9
ELSEWHERE = -1e9  # attention score of a region that is ruled out, as in the decoder
Shape = Sequence["int | str"]


Numbers = Mapping[str, np.ndarray]  # what a further language has of its own, by name


class Graph:
    """The nodes and weights of one graph. `store` adds a weight to it and returns its name."""

    def __init__(self, store: "Store", language: Numbers | None = None) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.language = language or {}
        self._store, self._names = store, 0

    def name(self, kind: str) -> str:
        """A name that no other part of the graph has."""
        self._names += 1
        return f"{kind.lower()}_{self._names}"

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Adds a node; the name of its output, or a list of names."""
        from onnx import helper

        names = [self.name(kind) for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names if outputs > 1 else names[0]

    def constant(self, values: "ArrayLike", dtype: str = "float32") -> str:
        """Adds a few numbers that are no weights."""
        from onnx import numpy_helper

        self.tensors.append(numpy_helper.from_array(np.asarray(values, dtype), self.name("constant")))
        return self.tensors[-1].name

    def weight(self, variable: "keras.Variable | np.ndarray", order: Sequence[int] = ()) -> str:
        """Adds a Keras weight, its axes in this order."""
        return self._store(self, np.asarray(variable.numpy() if hasattr(variable, "numpy") else variable), order)

    def dense(self, values: str, layer: "keras.layers.Dense") -> str:
        """The product with a layer's kernel, and its bias."""
        product, own = self.op("MatMul", values, self.weight(layer.kernel)), self.language
        if f"{layer.name}/a" in own:
            narrow = self.op("MatMul", values, self.weight(own[f"{layer.name}/a"]))
            product = self.op("Add", product, self.op("MatMul", narrow, self.weight(own[f"{layer.name}/b"])))
        bias = own.get(f"{layer.name}/bias", layer.bias)
        return self.op("Add", product, self.weight(bias)) if layer.use_bias else product

    def finish(self, name: str, inputs: dict[str, tuple[str, Shape]], outputs: dict[str, Shape]) -> "onnx.ModelProto":
        """The whole graph; inputs are {name: (type, shape)}, outputs {name: shape}, all of float32."""
        from onnx import TensorProto, helper

        kinds = {"float": TensorProto.FLOAT, "int32": TensorProto.INT32, "bool": TensorProto.BOOL}
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info(each, kinds[kind], shape) for each, (kind, shape) in inputs.items()],
            [helper.make_tensor_value_info(each, TensorProto.FLOAT, shape) for each, shape in outputs.items()],
            self.tensors,
        )
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="captioning")

    def give(self, value: str, name: str) -> None:
        """Makes a value an output of this name."""
        from onnx import helper

        self.nodes.append(helper.make_node("Identity", [value], [name]))


Store = Callable[[Graph, np.ndarray, Sequence[int]], str]


def encoder_graph(encoder: "keras.Model", store: Store) -> "onnx.ModelProto":
    """The graph of an encoder of registry.build_encoder."""
    graph = Graph(store)
    first = graph.op("Transpose", "images", perm=(0, 3, 1, 2))
    graph.give(_run(graph, encoder, [first]), "grid")
    images, grid = ("B", *encoder.input_shape[1:]), ("B", *encoder.output_shape[1:])
    return graph.finish("encoder", {"images": ("float", images)}, {"grid": grid})


def start_graph(model: "CaptionModel", store: Store, language: Numbers | None = None) -> "onnx.ModelProto":
    """The graph of the model's start."""
    graph, config = Graph(store, language), model.config
    projected = graph.op("Relu", graph.dense("grid", model.feature_projection))
    placed = graph.op("Add", projected, graph.weight(model.positions))
    norm = model.feature_norm
    values = graph.op(
        "LayerNormalization", placed, graph.weight(norm.gamma), graph.weight(norm.beta), axis=-1, epsilon=norm.epsilon
    )
    last, middle = graph.constant([2], "int64"), graph.constant([1], "int64")
    shares = graph.op("Unsqueeze", graph.op("Cast", "where", to=1), last)
    total = graph.op("ReduceSum", graph.op("Mul", values, shares), middle, keepdims=0)
    mean = graph.op("Div", total, graph.op("ReduceSum", shares, middle, keepdims=0))
    both = graph.op("Unsqueeze", graph.op("Tanh", graph.dense(mean, model.initial_state)), middle)
    hidden, cell = graph.op("Split", both, outputs=2, axis=-1, num_outputs=2)
    graph.give(graph.op("Unsqueeze", graph.dense(values, model.keys), middle), "keys")
    graph.give(graph.op("Unsqueeze", values, middle), "values")
    graph.give(hidden, "hidden")
    graph.give(cell, "cell")
    regions, units = config.num_regions, config.lstm_units
    return graph.finish(
        "start",
        {"grid": ("float", ("B", regions, config.feature_depth)), "where": ("bool", ("B", regions))},
        {
            "keys": ("B", 1, regions, config.attention_units),
            "values": ("B", 1, regions, config.feature_units),
            "hidden": ("B", 1, units),
            "cell": ("B", 1, units),
        },
    )


def step_graph(model: "CaptionModel", store: Store, language: Numbers | None = None) -> "onnx.ModelProto":
    """The graph of the model's step; see CaptionModel._advance and _head, which it follows line by line."""
    graph, config = Graph(store, language), model.config
    vectors = graph.weight(graph.language.get("embedding/embeddings", model.embedding.embeddings))
    words = graph.op("Gather", vectors, "tokens")
    widths = graph.constant(model.widths, "int64")
    query, gate, recurrent = graph.op(
        "Split", graph.dense("hidden", model.hidden_projection), widths, outputs=3, axis=-1
    )
    first, second, last = (graph.constant([axis], "int64") for axis in (1, 2, -1))
    sums = graph.op("Tanh", graph.op("Add", "keys", graph.op("Unsqueeze", query, second)))
    scores = graph.op("Squeeze", graph.dense(sums, model.attention_score), last)
    attention = graph.op("Softmax", graph.op("Where", "where", scores, graph.constant(ELSEWHERE)), axis=-1)
    seen = graph.op("MatMul", attention, graph.op("Squeeze", "values", first))
    context = graph.op("Mul", seen, graph.op("Sigmoid", gate))
    word_part = graph.dense(words, model.embedding_projection)
    gates = graph.op("Add", graph.op("Add", word_part, recurrent), graph.dense(context, model.context_projection))
    inputs, forget, candidate, output = graph.op("Split", gates, outputs=4, axis=-1, num_outputs=4)
    kept = graph.op("Mul", graph.op("Sigmoid", graph.op("Add", forget, graph.constant(1.0))), "cell")
    added = graph.op("Mul", graph.op("Sigmoid", inputs), graph.op("Tanh", candidate))
    cell = graph.op("Add", kept, added)
    hidden = graph.op("Mul", graph.op("Sigmoid", output), graph.op("Tanh", cell))
    outputs = graph.op("Add", graph.dense(hidden, model.head_hidden), graph.dense(context, model.head_context))
    logits = _head(graph, graph.op("Add", outputs, words), vectors, model.head)
    graph.give(graph.op("LogSoftmax", logits, axis=-1), "log_probs")
    graph.give(hidden, "hidden_out")
    graph.give(cell, "cell_out")
    graph.give(attention, "attention")
    regions, rows = config.num_regions, ("B", "R", config.lstm_units)
    return graph.finish(
        "step",
        {
            "tokens": ("int32", ("B", "R")),
            "keys": ("float", ("B", 1, regions, config.attention_units)),
            "values": ("float", ("B", 1, regions, config.feature_units)),
            "hidden": ("float", rows),
            "cell": ("float", rows),
            "where": ("bool", ("B", 1, regions)),
        },
        {
            "log_probs": ("B", "R", len(language["head_bias"]) if language else config.vocabulary_size),
            "hidden_out": rows,
            "cell_out": rows,
            "attention": ("B", "R", regions),
        },
    )


def _head(graph: Graph, outputs: str, vectors: str, layer: "keras.layers.Dense") -> str:
    """The logits; in a further language the vectors of the words, turned by one matrix, are the output layer."""
    own = graph.language
    if not own:
        return graph.dense(outputs, layer)
    turned = graph.op("MatMul", outputs, graph.weight(own["turn/kernel"]))
    product = graph.op("MatMul", turned, graph.op("Transpose", vectors, perm=(1, 0)))
    return graph.op("Add", product, graph.weight(own["head_bias"]))


def _run(graph: Graph, network: "keras.Model", inputs: Sequence[str]) -> str:
    """Adds the layers of a functional network."""
    values = {id(tensor): name for tensor, name in zip(network.inputs, inputs, strict=True)}
    by_depth = network._nodes_by_depth
    for node in (node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if not node.is_input):
        taken = [values[id(tensor)] for tensor in node.input_tensors]
        values[id(node.outputs[0])] = _add(graph, node.operation, taken, node.input_tensors[0].shape)
    return values[id(network.outputs[0])]


def _add(graph: Graph, layer: "Layer", inputs: list[str], shape: Sequence[int]) -> str:
    import keras

    if isinstance(layer, keras.Model):
        return _run(graph, layer, inputs)
    if type(layer).__name__ not in LAYERS:
        raise CaptioningError(
            f"The layer {layer.name} ({type(layer).__name__}) has no ONNX form here; "
            f"expected one of {', '.join(LAYERS)}: add it to captioning/extras/graphs.py."
        )
    return LAYERS[type(layer).__name__](graph, layer, inputs, shape)


def _rescaling(graph: Graph, layer: "Layer", inputs: list[str], shape: Sequence[int]) -> str:
    return _affine(graph, inputs[0], layer.scale, layer.offset)


def _affine(graph: Graph, value: str, scale: float | np.ndarray, offset: float | np.ndarray) -> str:
    if np.any(np.asarray(scale) != 1):
        value = graph.op("Mul", value, graph.constant(scale))
    return graph.op("Add", value, graph.constant(offset)) if np.any(offset) else value


def _normalization(graph: Graph, layer: "Layer", inputs: list[str], shape: Sequence[int]) -> str:
    mean, spread = (np.asarray(part, "float32").reshape(1, -1, 1, 1) for part in (layer.mean, layer.variance))
    centred = graph.op("Sub", inputs[0], graph.constant(mean))
    return graph.op("Div", centred, graph.constant(np.maximum(np.sqrt(spread), 1e-7)))


def _lambda(graph: Graph, layer: "Layer", inputs: list[str], shape: Sequence[int]) -> str:
    """A published encoder's preprocessing: a product of the three colours with a matrix, and an offset."""
    colours = np.concatenate([np.zeros((1, 3)), 255 * np.eye(3)]).astype("float32").reshape(4, 1, 1, 3)
    found = np.asarray(layer(colours), "float32").reshape(4, 3)
    matrix, offset = (found[1:] - found[0]) / 255, found[0]
    if not np.allclose(matrix, np.eye(3), atol=1e-6):
        return graph.op("Conv", inputs[0], graph.constant(matrix.T[..., None, None]), graph.constant(offset))
    return _affine(graph, inputs[0], 1, offset.reshape(1, 3, 1, 1))


def _convolution(graph: Graph, layer: "Layer", inputs: list[str], shape: Sequence[int]) -> str:
    is_deep = type(layer).__name__ == "DepthwiseConv2D"
    kernel = graph.weight(layer.kernel, (2, 3, 0, 1) if is_deep else (3, 2, 0, 1))
    bias = [graph.weight(layer.bias)] if layer.use_bias else []
    value = graph.op(
        "Conv",
        inputs[0],
        kernel,
        *bias,
        kernel_shape=layer.kernel_size,
        strides=layer.strides,
        pads=_pads(layer, layer.kernel_size, shape),
        group=shape[-1] if is_deep else 1,
    )
    return _activated(graph, value, layer.activation.__name__)


def _pads(layer: "Layer", sides: Sequence[int], shape: Sequence[int]) -> list[int]:
    if layer.padding == "valid":
        return [0, 0, 0, 0]
    totals = [
        max((-(-size // stride) - 1) * stride + side - size, 0)
        for size, side, stride in zip(shape[1:3], sides, layer.strides, strict=True)
    ]
    return [total // 2 for total in totals] + [total - total // 2 for total in totals]


def _pooling(graph: Graph, layer: "Layer", inputs: list[str], shape: Sequence[int]) -> str:
    pads = _pads(layer, layer.pool_size, shape)
    return graph.op("MaxPool", inputs[0], kernel_shape=layer.pool_size, strides=layer.strides, pads=pads)


def _batch_norm(graph: Graph, layer: "Layer", inputs: list[str], shape: Sequence[int]) -> str:
    weights = (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
    return graph.op("BatchNormalization", inputs[0], *map(graph.weight, weights), epsilon=layer.epsilon)


def _activation(graph: Graph, layer: "Layer", inputs: list[str], shape: Sequence[int]) -> str:
    return _activated(graph, inputs[0], layer.activation.__name__)


def _activated(graph: Graph, value: str, name: str) -> str:
    if name == "linear":
        return value
    if name in ("relu", "sigmoid", "tanh"):
        return graph.op(name.capitalize(), value)
    if name in ("silu", "swish"):
        return graph.op("Mul", value, graph.op("Sigmoid", value))
    raise CaptioningError(f"The activation {name} has no ONNX form here; add it to captioning/extras/graphs.py.")


def _relu(graph: Graph, layer: "Layer", inputs: list[str], shape: Sequence[int]) -> str:
    if layer.max_value is None:
        return graph.op("Relu", inputs[0])
    return graph.op("Clip", inputs[0], graph.constant(0.0), graph.constant(layer.max_value))


def _padding(graph: Graph, layer: "Layer", inputs: list[str], shape: Sequence[int]) -> str:
    (top, bottom), (left, right) = layer.padding
    return graph.op("Pad", inputs[0], graph.constant([0, 0, top, left, 0, 0, bottom, right], "int64"))


def _reshape(graph: Graph, layer: "Layer", inputs: list[str], shape: Sequence[int]) -> str:
    if len(shape) == 2:  # the mean of a squeeze-and-excitation block, which is (B, C, 1, 1) here
        return inputs[0]
    turned = graph.op("Transpose", inputs[0], perm=(0, 2, 3, 1))
    return graph.op("Reshape", turned, graph.constant([0, -1, shape[-1]], "int64"))


LAYERS: dict[str, Callable[[Graph, "Layer", list[str], Sequence[int]], str]] = {
    "Rescaling": _rescaling,
    "Normalization": _normalization,
    "Lambda": _lambda,
    "Conv2D": _convolution,
    "DepthwiseConv2D": _convolution,
    "BatchNormalization": _batch_norm,
    "Activation": _activation,
    "ReLU": _relu,
    "Add": lambda graph, layer, inputs, shape: graph.op("Add", *inputs),
    "Multiply": lambda graph, layer, inputs, shape: graph.op("Mul", *inputs),
    "GlobalAveragePooling2D": lambda graph, layer, inputs, shape: graph.op("GlobalAveragePool", *inputs),
    "MaxPooling2D": _pooling,
    "ZeroPadding2D": _padding,
    "Dropout": lambda graph, layer, inputs, shape: inputs[0],
    "Reshape": _reshape,
}
