"""Captions per second of the batched, compiled search, against a plain search that takes one image at a time.

python -m benchmarks.decoding            beam and greedy search, with an untrained and a trained captioner
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import ROOT, Row, Tables, ratio, run_script, span, take_turns, timed
from captioning.options import ModelOptions

TRAINED = ROOT / "artifacts" / "flickr8k"
FEW = 4  # images per round of the searches that take one image at a time
USUAL = 10.8  # mean number of words of a caption
SHARPER = 3  # factor on the logits, which makes an untrained captioner as confident as a trained one


def draw_grids(count: int, regions: int, depth: int) -> np.ndarray:
    """Grids like MobileNetV2's: sparse, none below zero."""
    return np.maximum(0, np.random.default_rng(0).normal(-0.4, 1.0, (count, regions, depth))).astype("float16")


def untrained(config: Any = None) -> Any:
    """A captioner of the default widths with random weights, its head's weights enlarged."""
    import keras

    from captioning.decoder.config import config_for
    from captioning.decoder.model import CaptionModel

    keras.utils.set_random_seed(0)
    model = CaptionModel(config or config_for(ModelOptions(), 2540, (0, 49, 1280)))
    model.build()
    model.head.set_weights([SHARPER * model.head.get_weights()[0], model.head.get_weights()[1]])
    return model


def trained(folder: Path = TRAINED) -> Any:
    """The decoder of a bundle; its encoder has no weights."""
    from captioning.inference import bundle

    return bundle.load_decoder(folder).model


def lengths_of(decoder: Any, grids: np.ndarray) -> np.ndarray:
    """The number of words of each image's best caption, without the end token."""
    tokens = decoder.search(grids).tokens[:, 0]
    return (tokens > 3).sum(axis=1)


def end_usually(model: Any, decoder: Any, grids: np.ndarray, *, words: float = USUAL) -> None:
    """Sets the head's bias of the end token by bisection, so that captions have `words` words on average."""
    from captioning.data.tokenizer import END

    low, high = 0.0, 10.0  # at 0 an untrained captioner never ends, at 10 it ends at once
    for _ in range(10):
        middle = (low + high) / 2
        set_end(model, middle)
        longer = lengths_of(decoder, grids).mean() > words
        low, high = (middle, high) if longer else (low, middle)
    assert model.head.get_weights()[1][END] == np.float32(middle)


def set_end(model: Any, bias: float) -> None:
    """Sets the head's bias of the end token."""
    from captioning.data.tokenizer import END

    kernel, biases = model.head.get_weights()
    biases[END] = bias
    model.head.set_weights([kernel, biases])


def measure(quick: bool) -> Tables:
    """One table for each captioner and search."""
    from captioning.runtime.keras_import import import_keras

    import_keras()
    from captioning.decoder.compiled_search import CaptionSearch
    from captioning.decoder.config import ModelConfig
    from captioning.decoder.search import SearchRules
    from captioning.options import DecodeOptions

    count, rounds = (4, 2) if quick else (64, 4)
    makers: dict[str, Any] = {"untrained, default widths": untrained, f"trained, {TRAINED.name}": trained}
    if quick:
        makers = {"untrained, tiny": lambda: untrained(ModelConfig(40, 9, 8, 8, 8, 8, 8))}
    tables = {}
    for name, make in makers.items():
        model = make()
        grids = draw_grids(count, model.config.num_regions, model.config.feature_depth)
        for options in (DecodeOptions(), DecodeOptions(strategy="greedy", num_beams=1)):
            decoder = CaptionSearch(model, SearchRules(options), jit=True)
            if name.startswith("untrained"):
                end_usually(model, decoder, grids)
            lengths = lengths_of(decoder, grids)
            words = f"captions of {lengths.mean():.1f} words, {lengths.max()} at most"
            search = f"beam {options.num_beams}" if options.strategy == "beam" else "greedy"
            tables[f"{name}: {search}, {words}"] = measure_search(decoder, grids, rounds)
    return tables


def measure_search(decoder: Any, grids: np.ndarray, rounds: int) -> list[Row]:
    """Our search on all grids at once, one by one, and without early stopping; the plain search on a few grids."""
    from benchmarks.plain_search import Compiled, search_one
    from captioning.decoder.compiled_search import CaptionSearch
    from captioning.decoder.search import SearchRules

    model, options = decoder.model, decoder.rules.options
    never = CaptionSearch(model, SearchRules(replace(options, min_length=options.max_length)), jit=True)
    compiled = Compiled(model.step)
    step = lambda tokens, state: compiled.predict_on_batch((tokens, state))  # noqa: E731
    few = grids[:FEW]
    contenders = {
        "ours": (len(grids), lambda: decoder.search(grids)),
        "ours, no caption ending early": (len(grids), lambda: never.search(grids)),
        "ours, one by one": (FEW, lambda: [decoder.search(grid[None]) for grid in few]),
        "plain, around a compiled step": (FEW, lambda: [search_one(model.start, step, grid, options) for grid in few]),
        "plain, around model.step": (FEW, lambda: [search_one(model.start, model.step, grid, options) for grid in few]),
    }
    acts = {name: timed(act) for name, (_, act) in contenders.items()}
    take_turns(acts, 1)  # compiles
    seconds = take_turns(acts, rounds)
    each = {name: np.divide(seconds[name], count) for name, (count, _) in contenders.items()}
    return [
        {
            "": name,
            "images/s": float(1 / np.median(each[name])),
            "time, where ours is 1": ratio(each[name], each["ours"]),
            "in all rounds": span(each[name], each["ours"]),
        }
        for name in contenders
    ]


if __name__ == "__main__":
    run_script(__doc__, measure)
