"""Validates a stranger's ONNX graph before ONNX Runtime opens it: a small reader of its protobuf, without `onnx`.

A graph may hold few numbers itself, refer to numbers of the bundle's own weights file, and use known operators. No
operator may compute with constants alone, but for those that keep their size: ONNX Runtime would compute it at once,
outside the arena that bounds its memory.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

OPERATORS = {
    *("Add", "BatchNormalization", "Cast", "Clip", "Conv", "Div", "Gather", "GlobalAveragePool", "Identity"),
    *("LayerNormalization", "LogSoftmax", "MatMul", "MaxPool", "Mul", "Pad", "ReduceSum", "Relu", "Reshape"),
    *("Sigmoid", "Softmax", "Split", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze", "Where"),
}
OF_CONSTANTS = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})  # these keep the size
MOST_NODES = 10_000
MOST_BYTES = 4 * 2**20  # of numbers within a graph; all but weights of the file
MOST_SHARES = 2  # times the weights file: the numbers that a graph refers to
DOMAINS = ("", "ai.onnx")
# field numbers of onnx.proto
MODEL_GRAPH, MODEL_OPSET, MODEL_TRAINING, MODEL_FUNCTIONS = 7, 8, 20, 25
GRAPH_NODE, GRAPH_TENSOR, GRAPH_SPARSE = 1, 5, 15
NODE_INPUT, NODE_OUTPUT, NODE_OPERATOR, NODE_ATTRIBUTE, NODE_DOMAIN = 1, 2, 4, 5, 7
ATTRIBUTE_NUMBERS = frozenset({1, 2, 3, 4, 7, 8, 13, 20, 21})  # name, f, i, s, floats, ints, doc, type, reference
TENSOR_NAME, TENSOR_EXTERNAL, TENSOR_PLACE = 8, 13, 14
ENTRY_KEY, ENTRY_VALUE = 1, 2
BYTES = 2  # wire type of texts, bytes and messages


@dataclass
class _Found:
    constants: set[str] = field(default_factory=set)
    own_bytes: int = 0
    file_bytes: dict[str, int] = field(default_factory=dict)  # of each file


def validate_graph(graph: bytes, files: Mapping[str, int]) -> None:
    """Raises ValueError where a graph is unsafe; `files` are the names and sizes of those it may refer to."""
    found, graphs = _Found(), 0
    for number, value in _fields(memoryview(graph)):
        if number in (MODEL_TRAINING, MODEL_FUNCTIONS):
            raise ValueError("it holds functions of its own")
        if number == MODEL_OPSET:
            for _, domain in _fields(_message(value)):
                _require_domain(domain)
        if number == MODEL_GRAPH:
            graphs += 1
            _walk(_message(value), files, found)
    if graphs != 1:
        raise ValueError(f"it holds {graphs} graphs")


def _walk(graph: memoryview, files: Mapping[str, int], found: _Found) -> None:
    nodes = []
    for number, value in _fields(graph):
        if number == GRAPH_SPARSE:
            raise ValueError("it holds sparse numbers")
        if number == GRAPH_TENSOR:
            _tensor(_message(value), files, found)
        if number == GRAPH_NODE:
            nodes.append(_message(value))
    if len(nodes) > MOST_NODES:
        raise ValueError(f"it has {len(nodes):,} nodes")
    for node in nodes:
        _node(node, found)


def _node(node: memoryview, found: _Found) -> None:
    inputs, outputs, operator = [], [], ""
    for number, value in _fields(node):
        if number == NODE_INPUT:
            inputs.append(_text(value))
        elif number == NODE_OUTPUT:
            outputs.append(_text(value))
        elif number == NODE_OPERATOR:
            operator = _text(value)
        elif number == NODE_DOMAIN:
            _require_domain(value)
        elif number == NODE_ATTRIBUTE and {field for field, _ in _fields(_message(value))} - ATTRIBUTE_NUMBERS:
            raise ValueError(f"an attribute of {operator or 'a node'} holds more than numbers")
    if operator not in OPERATORS:
        raise ValueError(f"it has the unknown operator {operator}")
    if all(name in found.constants for name in inputs if name):
        if operator not in OF_CONSTANTS:
            raise ValueError(f"its operator {operator} computes with constants alone")
        found.constants.update(outputs)


def _tensor(tensor: memoryview, files: Mapping[str, int], found: _Found) -> None:
    entries: dict[str, str] = {}
    is_external = False
    for number, value in _fields(tensor):
        if number == TENSOR_NAME:
            found.constants.add(_text(value))
        elif number == TENSOR_EXTERNAL:
            parts = dict(_fields(_message(value)))
            entries[_text(parts.get(ENTRY_KEY, b""))] = _text(parts.get(ENTRY_VALUE, b""))
        elif number == TENSOR_PLACE:
            is_external = bool(value)
    if not (is_external or entries):
        found.own_bytes += len(tensor)
        if found.own_bytes > MOST_BYTES:
            raise ValueError(f"it holds more than {MOST_BYTES // 2**20} MB of numbers itself")
        return
    place = entries.get("location", "")
    size = files.get(place)
    if size is None:
        raise ValueError(f"it refers to the file {place!r}")
    offset, length = (int(entries.get(key, "-1")) for key in ("offset", "length"))
    if set(entries) != {"location", "offset", "length"} or offset < 0 or length < 0 or offset + length > size:
        raise ValueError("it refers to numbers outside the weights file")
    found.file_bytes[place] = found.file_bytes.get(place, 0) + length
    if found.file_bytes[place] > MOST_SHARES * size:
        raise ValueError("it refers to the same weights many times")


def _require_domain(value: "memoryview | int") -> None:
    if not isinstance(value, int) and _text(value) not in DOMAINS:
        raise ValueError(f"it uses operators of {_text(value)!r}")


def _fields(message: memoryview) -> Iterator[tuple[int, "memoryview | int"]]:
    """The numbers of a message's fields with their values: bytes, or a whole number."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == BYTES:
            length, place = _varint(message, place)
        elif kind == 0:
            value, place = _varint(message, place)
            yield key >> 3, value
            continue
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError("it is damaged")
        if place + length > len(message):
            raise ValueError("it ends too early")
        yield key >> 3, message[place : place + length]
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            raise ValueError("it ends too early")
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("it is damaged")


def _message(value: "memoryview | int") -> memoryview:
    if isinstance(value, int):
        raise ValueError("it is damaged")
    return value


def _text(value: "memoryview | bytes | int") -> str:
    if isinstance(value, int):
        raise ValueError("it is damaged")
    return bytes(value).decode("utf-8", "backslashreplace")
