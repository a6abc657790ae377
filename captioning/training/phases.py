"""The phases of a training, built one after the other: fit, fine-tune, self-critical."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from captioning.data.tokenizer import normalise
from captioning.encoders.features import Features
from captioning.encoders.registry import open_stages
from captioning.evaluation.scoring import validator
from captioning.inference.captioner import Captioner
from captioning.options import TrainOptions
from captioning.training.batches import examples_of
from captioning.training.inputs import Inputs, Split
from captioning.training.self_critical import SelfCritical
from captioning.training.sentences import with_sentences
from captioning.training.trainer import MakeBatch, Phase


def build_phases(
    captioner: Captioner,
    inputs: Inputs,
    splits: Mapping[str, Split],
    options: TrainOptions,
    *,
    length: int,
    reload_grids: Callable[[], Features] | None = None,
    sentences: Sequence[str] = (),
) -> Iterator[Phase]:
    """Yield the training phases in order. Each is built after the previous one has ended.

    The decoder is fitted on grids, or with its encoder on pixels. Fine-tuning trains the encoder too, on crops.
    Self-critical training then reads the grids of the fine-tuned encoder, since pixels are slow.
    Captions have up to `length` words, <end> counted.
    """
    grids, pixels, encoder = inputs.grids, inputs.pixels, inputs.encoder
    encode = functools.partial(captioner.tokenizer.encode_batch, length=length)
    freeze = functools.partial(setattr, encoder, "trainable", False)
    unfreeze = functools.partial(open_stages, encoder, options.fine_tune_stages)
    fine_tunes = bool(options.fine_tune_epochs) and pixels is not None and (grids is not None or not options.epochs)

    def phase(
        name: str, epochs: int, rate: float, features: Features, prepare: Callable, make_batch: MakeBatch | None = None
    ) -> Phase:
        train, dev = (examples_of(features, splits[split], encode) for split in ("train", "dev"))
        train = replace(train, crop=options.fine_tune_crop if prepare is unfreeze else 1.0)
        return Phase(name, epochs, rate, train, dev, validator(captioner, features, splits["dev"]), prepare, make_batch)

    features = grids or pixels
    assert features is not None, "an encoder is frozen, trained or both"
    if options.epochs:
        fit = phase("fit", options.epochs, options.learning_rate, features, freeze if grids else lambda: None)
        if sentences:
            count, seed = options.captions_per_image, options.seed
            fit = replace(fit, train=with_sentences(fit.train, sentences, encode, captions_per_image=count, seed=seed))
        yield fit
    if fine_tunes and pixels:
        yield phase("fine-tune", options.fine_tune_epochs, options.fine_tune_rate, pixels, unfreeze)
        features = reload_grids() if reload_grids and options.reinforce_epochs else pixels
    if options.reinforce_epochs:
        make_batch = self_critical(captioner, splits["train"], options, length=length).batch
        yield phase("reinforce", options.reinforce_epochs, options.reinforce_rate, features, freeze, make_batch)


def self_critical(captioner: Captioner, split: Split, options: TrainOptions, *, length: int) -> SelfCritical:
    """Return what makes the batches of self-critical training from the captions of these images."""
    references = [[" ".join(normalise(text)) for text in captions] for captions in split.values()]
    split_words = captioner.tokenizer.split
    return SelfCritical(
        captioner.model,
        lambda ids: " ".join(split_words(ids)),
        references,
        encode=captioner.encoder.predict_on_batch,
        options=options,
        length=length,
    )
