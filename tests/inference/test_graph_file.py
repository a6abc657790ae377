"""A stranger's graph can read no file, run no unknown operator, and take no more memory than is allowed."""

import contextlib

import numpy as np
import pytest

from captioning.errors import BundleError
from captioning.inference import engine_onnx
from captioning.inference.graph_file import MOST_BYTES, validate_graph

onnx = pytest.importorskip("onnx")
helper, numpy_helper, TensorProto = onnx.helper, onnx.numpy_helper, onnx.TensorProto
FILES = {"model.weights.h5": 4096}


def graph_of(nodes, tensors=(), *, domain="", functions=(), sparse=()) -> bytes:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 4])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(list(nodes), "g", [value], [result], list(tensors), sparse_initializer=list(sparse))
    opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=9).SerializeToString()


def external(**entries) -> "onnx.TensorProto":
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT16, dims=[16], data_location=TensorProto.EXTERNAL)
    for key, value in ({"location": "model.weights.h5", "offset": 0, "length": 32} | entries).items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    return tensor


def node(kind, *inputs, **attributes):
    return helper.make_node(kind, list(inputs or ("x",)), ["y"], **attributes)


def test_the_graphs_of_a_bundle_pass(exported):
    sizes = {"model.weights.h5": (exported / "model.weights.h5").stat().st_size}
    for name in engine_onnx.GRAPHS:
        validate_graph((exported / name).read_bytes(), sizes)
    validate_graph(graph_of([node("Relu")], [external()]), FILES)


@pytest.mark.parametrize(
    "entries",
    [
        {"location": "/etc/passwd"},
        {"location": "../model.weights.h5"},
        {"location": "tokenizer.pkl"},
        {"location": None},
        {"offset": 4090},
        {"offset": -1},
        {"length": None},
        {"length": 10**12},
        {"checksum": "0"},
    ],
)
def test_numbers_outside_the_weights_file_are_refused(entries):
    with pytest.raises(ValueError, match="refers to"):
        validate_graph(graph_of([node("Relu")], [external(**entries)]), FILES)


def test_the_same_weights_many_times_are_refused():
    with pytest.raises(ValueError, match="many times"):
        validate_graph(graph_of([node("Relu")], [external(length=4096)] * 3), FILES)


def inner():
    return helper.make_graph([node("Relu")], "inner", [], [])


def function():
    opset = [helper.make_opsetid("", 18)]
    return helper.make_function("ours", "f", ["x"], ["y"], [node("Relu")], opset)


SPARSE = helper.make_sparse_tensor(
    helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0]), helper.make_tensor("i", TensorProto.INT64, [1], [0]), [4]
)


@pytest.mark.parametrize(
    ("graph", "why"),
    [
        (lambda: graph_of([node("Loop")]), "unknown operator Loop"),
        (lambda: graph_of([node("ConstantOfShape")]), "unknown operator"),
        (lambda: graph_of([node("Relu", domain="com.microsoft")]), "operators of 'com.microsoft'"),
        (lambda: graph_of([node("Relu")], domain="ai.onnx.ml"), "operators of 'ai.onnx.ml'"),
        (lambda: graph_of([node("Relu", then_branch=inner())]), "more than numbers"),
        (lambda: graph_of([node("Relu", value=numpy_helper.from_array(np.ones(3)))]), "more than numbers"),
        (lambda: graph_of([node("Relu")], functions=[function()], domain="ours"), "functions of its own|operators of"),
        (lambda: graph_of([node("Relu")], sparse=[SPARSE]), "sparse"),
        (lambda: graph_of([node("MatMul", "w", "w")], [external()]), "MatMul computes with constants alone"),
        (
            lambda: graph_of([helper.make_node("Cast", ["w"], ["c"], to=1), node("Add", "c", "c")], [external()]),
            "Add computes with constants alone",
        ),
        (
            lambda: graph_of([node("Relu")], [numpy_helper.from_array(np.zeros(MOST_BYTES, "int8"), "z")]),
            "more than 4 MB of numbers itself",
        ),
        (lambda: graph_of([node("Relu")] * 10_001), "10,001 nodes"),
        (lambda: b"", "0 graphs"),
        (lambda: 2 * graph_of([node("Relu")]), "2 graphs"),
        (lambda: graph_of([node("Relu")])[:-3], "too early|damaged"),
        (lambda: b"\xff" * 20, "damaged"),
    ],
)
def test_what_could_do_harm_is_refused(graph, why):
    with pytest.raises(ValueError, match=why):
        validate_graph(graph(), FILES)


def test_altered_bytes_are_refused_or_harmless(exported):
    whole = (exported / "step.onnx").read_bytes()
    sizes = {"model.weights.h5": (exported / "model.weights.h5").stat().st_size}
    rng = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(whole)
        data[rng.integers(len(data))] = rng.integers(256)
        with contextlib.suppress(ValueError):  # any other error, or a hang, fails the test
            validate_graph(bytes(data[: rng.integers(1, len(data) + 1)]), sizes)


def test_a_graph_that_wants_too_much_memory_is_refused_when_it_runs():
    grown = ["x"]
    nodes = []
    for times in range(3):  # (B, 4) -> (B, 1, 4) . (B, 4, 1): each product is as large as its inputs' product
        nodes += [
            helper.make_node("Reshape", [grown[-1], "column"], [f"c{times}"]),
            helper.make_node("Reshape", [grown[-1], "row"], [f"r{times}"]),
            helper.make_node("MatMul", [f"c{times}", f"r{times}"], [f"m{times}"]),
        ]
        grown.append(f"m{times}")
    nodes.append(helper.make_node("Identity", [grown[-1]], ["y"]))
    shapes = [numpy_helper.from_array(np.array(shape), name) for name, shape in (("column", [-1, 1]), ("row", [1, -1]))]
    run = engine_onnx._runner("step.onnx", graph_of(nodes, shapes), {})
    with pytest.raises(BundleError, match=r"step\.onnx cannot be computed"):
        run(("y",), {"x": np.ones((4, 4), "float32")})  # 16 ** 8 numbers, 17 GB
