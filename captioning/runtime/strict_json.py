"""Strict JSON: no NaN, no infinity, no lone surrogate, bounded numbers and bounded nesting."""

import json
import math
from typing import Any, NoReturn

DEEPEST = 50  # levels of lists and objects; what this project writes has fewer than ten
LARGEST_WHOLE = 2**63


def loads(text: str | bytes) -> Any:
    """Parses a JSON text. Raises ValueError if it is not JSON or exceeds one of the bounds."""
    too_deep = ValueError(f"it is nested more than {DEEPEST} levels deep")
    try:
        value = json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False).encode()  # raises UnicodeEncodeError, a ValueError, at a lone surrogate
    except RecursionError:
        raise too_deep from None
    if _depth(value) > DEEPEST:
        raise too_deep
    return value


def dumps(value: object, **layout: Any) -> str:
    """A value as JSON text. Raises ValueError for NaN and infinity, which JSON cannot express."""
    return json.dumps(value, allow_nan=False, **layout)


def _whole(digits: str) -> int:
    value = int(digits)
    if abs(value) > LARGEST_WHOLE:
        raise ValueError("it holds a whole number of more than 64 bits")
    return value


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"{digits[:20]} is too large for a number")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _depth(value: object) -> int:
    level, depth = [value], 0
    while level := [each for each in level if isinstance(each, (dict, list))]:
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
        depth += 1
    return depth
