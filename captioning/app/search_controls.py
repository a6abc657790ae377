"""The dials of a search, made from DecodeOptions: their names, helps and choices are those of the command line."""

from dataclasses import fields
from typing import Any

import gradio as gr

from captioning.options import DecodeOptions
from captioning.serving.session import values_of

RANGES: dict[str, tuple[float, float, float]] = {  # least, most, step
    "num_beams": (1, 10, 1),
    "num_captions": (1, 10, 1),
    "max_length": (1, 40, 1),
    "min_length": (0, 20, 1),
    "length_penalty": (0, 2, 0.1),
    "repetition_penalty": (1, 3, 0.1),
    "no_repeat_ngram_size": (0, 5, 1),
    "temperature": (0.1, 2, 0.1),
    "top_k": (0, 50, 1),
    "top_p": (0.05, 1, 0.05),
    "sampling_seed": (0, 99, 1),
}
NAMES = {"num_beams": "Beams", "num_captions": "Captions", "no_repeat_ngram_size": "Unique runs of words"}


def search_dials(options: DecodeOptions) -> list[Any]:
    """A dial for every field, standing as the options say."""
    return [_dial(field, value) for field, value in zip(fields(DecodeOptions), values_of(options), strict=True)]


def _dial(field: Any, value: Any) -> Any:
    label = NAMES.get(field.name, field.name.replace("_", " ").capitalize())
    info = field.metadata["help"]
    if field.metadata["choices"]:
        return gr.Radio(list(field.metadata["choices"]), value=value, label=label, info=info)
    if isinstance(field.default, bool):
        return gr.Checkbox(value, label=label, info=info)
    if field.name not in RANGES:
        return gr.Textbox(value, label=label, info=info, max_length=200, lines=1)
    least, most, step = RANGES[field.name]
    precision = 0 if isinstance(field.default, int) else 2
    return gr.Slider(least, max(most, value), value, step=step, precision=precision, label=label, info=info, buttons=[])
