"""The flags of a training -> its options: a preset that suits the data, then the flags that were given.

It imports no Keras, so that a wrong flag is refused at once.
"""

import argparse
from dataclasses import fields, replace
from typing import Any

from captioning.errors import DataError
from captioning.options import (
    NETWORK,
    RECORDS,
    DataOptions,
    DecodeOptions,
    EngineOptions,
    ModelOptions,
    RecipeOptions,
    RunOptions,
    TrainOptions,
    WordOptions,
)
from captioning.runtime.flags import Record, defaults, from_flags
from captioning.training.presets import ADDED, BEGUN, BEGUN_BY_SIZE, FEEDBACK, SCENES, SMOKE


def recipe_options(flags: argparse.Namespace) -> RecipeOptions:
    """Return the options of a training; a flag that was given wins over the preset."""
    if flags.from_feedback and not (flags.data or flags.dataset):
        raise DataError("--from-feedback needs the data that the bundle was trained on: add --data or --dataset.")
    if flags.bundle:
        _check_network(flags)
    preset = preset_for(flags)

    def options(record: type[Record]) -> Record:
        return from_flags(flags, defaults(record, preset))

    unset = {entry.name for record in RECORDS for entry in fields(record) if getattr(flags, entry.name, None) is None}
    return RecipeOptions(
        data=options(DataOptions),
        words=options(WordOptions),
        model=options(ModelOptions),
        training=options(TrainOptions),
        decoding=options(DecodeOptions),
        run=options(RunOptions),
        engine=options(EngineOptions),
        unset=frozenset(unset - (SMOKE.keys() if flags.smoke else set())),
    )


def adapt_to_base(options: RecipeOptions, decoding: DecodeOptions) -> RecipeOptions:
    """Return the options with the search of the base model, but for what a flag says."""
    names = [entry.name for entry in fields(decoding) if entry.name in options.unset]
    return replace(options, decoding=replace(options.decoding, **{name: getattr(decoding, name) for name in names}))


def adapt_to_size(options: RecipeOptions, num_images: int) -> RecipeOptions:
    """Return the options with what suits so few training images and a base model, but for what a flag says."""
    size = min((size for size in BEGUN_BY_SIZE if num_images <= size), default=None)
    preset = BEGUN_BY_SIZE[size] if size else {}
    chosen = {name: value for name, value in preset.items() if name in options.unset}
    if not chosen:
        return options
    told = ", ".join(f"--{name.replace('_', '-')} {value:g}" for name, value in chosen.items())
    print(f"Defaults for {num_images:,} training images that start from {options.run.bundle}: {told}")
    records: dict[str, Any] = {"words": options.words, "training": options.training}
    for name, record in records.items():
        own = {entry.name: chosen[entry.name] for entry in fields(record) if entry.name in chosen}
        records[name] = replace(record, **own)
    return replace(options, **records)


def preset_for(flags: argparse.Namespace) -> dict[str, Any]:
    """Return the defaults that suit the data, and the bundle that the training starts from."""
    preset = SCENES if flags.dataset == "scenes" and not flags.data else {}
    preset = preset | (FEEDBACK if flags.from_feedback else BEGUN if flags.bundle else {})
    preset = preset | (ADDED if flags.add_languages else {})
    return preset | (SMOKE if flags.smoke else {})


def _check_network(flags: argparse.Namespace) -> None:
    """Refuse flags that would change the encoder or the widths of a network that is trained further."""
    for name in NETWORK:
        if getattr(flags, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise DataError(f"{flag} cannot be used with --bundle: it is fixed by {flags.bundle}, leave it out.")
    if flags.glove not in (None, "auto", "none"):
        raise DataError(f"--glove {flags.glove} cannot be used with --bundle: its words have vectors; leave it out.")
