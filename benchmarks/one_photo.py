"""The time to caption one photograph from the disk with Keras: the encoder's forward pass, and everything else.

python -m benchmarks.one_photo           with ResNet50, and with the captioner that comes along
"""

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.drawn import draw_photographs
from benchmarks.measure import ROOT, Row, Tables, run_script, take_turns, timed

BUNDLE = ROOT / "artifacts" / "flickr8k"


def save_on_resnet50(folder: Path) -> dict[str, Any]:
    """Saves a bundle with a ResNet50 of random weights. Returns the arguments of `captioning.load`.

    Its decoder is the included one. Only the first projection is random, since these grids are deeper. So its captions
    are meaningless but of ordinary length.
    """
    import keras

    from captioning.decoder.model import CaptionModel
    from captioning.decoder.transfer import copy_matching_weights
    from captioning.encoders.registry import build_encoder
    from captioning.inference import bundle
    from captioning.options import ModelOptions

    keras.utils.set_random_seed(0)
    encoder = build_encoder("resnet50", "none")
    network = next(layer for layer in encoder.layers if isinstance(layer, keras.Model))
    weights = folder / "resnet50.weights.h5"
    network.save_weights(weights)
    donor = bundle.load_decoder(BUNDLE)
    model = CaptionModel(dataclasses.replace(donor.model.config, feature_depth=encoder.output_shape[-1]))
    model.build()
    copy_matching_weights(model, donor.tokenizer.words, donor, same_encoder=False)
    usual = dataclasses.replace(donor.decoding, mirrored=False)  # without the mirrored view
    parts = bundle.Parts(model, donor.tokenizer, encoder, ModelOptions(encoder="resnet50"), usual)
    bundle.save(folder / "resnet50", parts, files={}, about={})
    return {"path": folder / "resnet50", "encoder_weights": str(weights)}


def measure(quick: bool) -> Tables:
    """One table, a row per captioner."""
    import captioning
    from captioning.runtime.keras_import import import_keras

    import_keras()
    rounds = 2 if quick else 20
    with tempfile.TemporaryDirectory() as scratch:
        photographs = draw_photographs(Path(scratch), rounds + 1)
        rows = [measure_captioner(BUNDLE.name, captioning.load(BUNDLE, engine="keras"), photographs)]
        if not quick:
            captioner = captioning.load(**save_on_resnet50(Path(scratch)))
            rows.insert(0, measure_captioner("ResNet50", captioner, photographs))
    return {"One photograph, beam 3": rows}


def measure_captioner(name: str, captioner: Any, photographs: list[Path]) -> Row:
    """The median times of one captioner. Each photograph is used once, since the captioner caches features."""
    from captioning.data.images import read_image

    first, rounds = photographs[0], len(photographs) - 1
    ready = read_image(first, size=captioner.image_size)
    words = [len(captioner.caption(first).words)]  # compiles
    grid = captioner.features([first])
    ahead: Iterator[Path] = iter(photographs[1:])
    contenders = {
        "whole": timed(lambda: words.append(len(captioner.caption(next(ahead)).words))),
        "encoder": timed(lambda: captioner.encoder.predict_on_batch(ready[None])),
        "reading": timed(lambda: read_image(first, size=captioner.image_size)),
        "search": timed(lambda: captioner.caption_features(grid)),
    }
    take_turns({name: contenders[name] for name in ("encoder", "search")}, 1)
    seconds = {name: np.array(taken) for name, taken in take_turns(contenders, rounds).items()}
    times = {name: 1000 * float(np.median(taken)) for name, taken in seconds.items()}
    rest = 1000 * float(np.median(seconds["whole"] - seconds["encoder"]))
    return {
        "": name,
        "photo to caption, ms": times["whole"],
        "encoder alone, ms": times["encoder"],
        "all the rest, ms": rest,
        "encoder's share": float(np.median(seconds["encoder"] / seconds["whole"])),
        "of the rest: reading, ms": times["reading"],
        "search and attention, ms": times["search"],
        "words": float(np.mean(words)),
    }


if __name__ == "__main__":
    run_script(__doc__, measure)
