"""The controls of a search, made from DecodeOptions: their names, helps and choices are those of the command line."""

from collections.abc import Sequence
from dataclasses import Field, fields
from typing import Any

import gradio as gr

from captioning.app.texts import SAY
from captioning.options import DecodeOptions
from captioning.serving.session import values_of

IN_SIGHT = ("language", "strategy", "num_beams", "max_length")  # all others are under "Advanced"
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


class SearchControls:
    """A control for every field of the options: some where it is made, the others where `build_rest` is called.

    `languages` are those that a captioner may have beside its own.
    """

    def __init__(self, options: DecodeOptions, languages: Sequence[str] = ()) -> None:
        self._languages = [("its own", ""), *((code, code) for code in languages)]
        self._fields = fields(DecodeOptions)
        self._values = dict(zip((field.name for field in self._fields), values_of(options), strict=True))
        self._made = self._build(is_in_sight=True)

    def build_rest(self) -> None:
        """Adds the controls that are not in sight."""
        self._made |= self._build(is_in_sight=False)

    @property
    def parts(self) -> list[Any]:
        """All controls, in the order of the options."""
        return [self._made[field.name] for field in self._fields]

    def _build(self, *, is_in_sight: bool) -> dict[str, Any]:
        chosen = [field for field in self._fields if (field.name in IN_SIGHT) == is_in_sight]
        return {field.name: self._control(field, self._values[field.name]) for field in chosen}

    def _control(self, field: Field[Any], value: Any) -> Any:
        if field.name != "language":
            return _control(field, value)
        offered: dict[str, Any] = {"visible": len(self._languages) > 1, "info": SAY("help_language")}
        return gr.Dropdown(self._languages, value=value, label=SAY("option_language"), filterable=False, **offered)


def _control(field: Field[Any], value: Any) -> Any:
    label, info = SAY(f"option_{field.name}"), SAY(f"help_{field.name}")
    if field.metadata["choices"]:
        return gr.Radio(list(field.metadata["choices"]), value=value, label=label, info=info)
    if isinstance(field.default, bool):
        return gr.Checkbox(value, label=label, info=info)
    if field.name not in RANGES:
        return gr.Textbox(value, label=label, info=info, max_length=200, lines=1)
    least, most, step = RANGES[field.name]
    precision = 0 if isinstance(field.default, int) else 2
    return gr.Slider(least, max(most, value), value, step=step, precision=precision, label=label, info=info, buttons=[])
