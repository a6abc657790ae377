#!/usr/bin/env python
"""The recipe: data, words, features, fit, fine-tune, scores, bundle.

python train.py                       Flickr8k with ResNet50, fetching what is missing
python train.py --dataset scenes      the built-in drawn scenes; nothing is fetched
python train.py --data my-pictures    your own captioned pictures, in any common layout
python train.py --data my-pictures --bundle artifacts/pocket    the same, beginning with what a captioner knows
"""

import argparse
import functools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from captioning.errors import CaptioningError, DataError
from captioning.flags import add_flags, defaults, from_flags
from captioning.options import (
    BEGUN,
    FEEDBACK,
    NETWORK,
    RECORDS,
    SCENES,
    SMOKE,
    DataOptions,
    DecodeOptions,
    EngineOptions,
    ModelOptions,
    RunOptions,
    TrainOptions,
    WordOptions,
    check_shares,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the flags and trains; a person's mistake ends in one sentence and an exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_flags(parser, *RECORDS)
    flags = parser.parse_args(arguments)
    try:
        is_scenes = not flags.data and flags.dataset == "scenes"
        preset = (SCENES if is_scenes else {}) | (FEEDBACK if flags.from_feedback else BEGUN if flags.bundle else {})
        preset |= SMOKE if flags.smoke else {}
        if flags.from_feedback and not (flags.data or flags.dataset):
            raise DataError("--from-feedback goes on with what the bundle learnt from: give --data or --dataset too.")
        if flags.bundle:
            refuse_another_network(flags)
        records = [from_flags(flags, defaults(record, preset)) for record in RECORDS]
        *_, train_options, _, run, _ = records
        check_shares(train_options, run)
        if train_options.keep_base and (flags.from_feedback or not flags.bundle):
            raise DataError("--keep-base mixes the weights of a base model back in: give it with --bundle BUNDLE.")
        (retrain if flags.from_feedback else train)(*records)
    except CaptioningError as error:
        print(f"train.py: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("train.py: Stopped at once; what was last saved is kept.", file=sys.stderr)
        return 130
    return 0


def refuse_another_network(flags: argparse.Namespace) -> None:
    """A network that is gone on with has the encoder and the widths that it has."""
    for name in NETWORK:
        if getattr(flags, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise DataError(f"{flag} cannot be chosen beside --bundle: leave it out, it is that of {flags.bundle}.")
    if flags.engine == "ray":
        raise DataError("--bundle looks at images in this process alone: leave out --engine ray.")


def train(
    data: DataOptions,
    words: WordOptions,
    model_options: ModelOptions,
    train_options: TrainOptions,
    decoding: DecodeOptions,
    run: RunOptions,
    engine: EngineOptions,
) -> None:
    """Trains one captioner and writes its bundle to artifacts/<name>/."""
    from captioning.runtime.keras_import import import_keras

    import_keras()
    import keras

    from captioning.decoder import transfer
    from captioning.encoders.registry import digest_of
    from captioning.inference import bundle
    from captioning.runtime import devices
    from captioning.runtime.files import exclusive_lock
    from captioning.training import trainer

    base, model_options = begin(run, model_options)
    keras.utils.set_random_seed(train_options.seed)
    subject = Path(data.data).resolve().stem if data.data else data.dataset
    name = run.name or f"{subject}-{model_options.encoder}".removesuffix("-tiny")
    folder, checkpoint_folder = Path(run.artifacts, name), Path(run.artifacts, f"{name}.training")
    recipe = {
        "data": asdict(data),
        "words": asdict(words),
        "model": asdict(model_options),
        "training": asdict(train_options),
    }
    with devices.data_parallel(run.devices), exclusive_lock(checkpoint_folder):
        trainer.check_overwrite(folder, checkpoint_folder, run)
        dataset, source = read_data(data, train_options, run)
        splits = {"dev": dataset.splits["train"]} | {split: held for split, held in dataset.splits.items() if held}
        tokenizer, vectors, coverage = learn_words(splits["train"], words, model_options, train_options, run)
        encoder, grids, pixels, precision = look(splits, model_options, train_options, run, engine, base)

        parts = assemble(
            tokenizer, vectors, encoder, (model_options, decoding, run), is_tuned=pixels is not None, base=base
        )
        model = parts.model
        begun = [keras.ops.convert_to_numpy(weight) for weight in model.weights if train_options.keep_base]
        encode = functools.partial(tokenizer.encode_batch, length=words.caption_length)
        again = functools.partial(look_again, encoder, splits, model_options, train_options, run)
        phases = plan(parts.captioner(), encoder, splits, (grids, pixels), train_options, encode, again=again)
        print(f"{model.count_params():,} weights, {precision}, {len(splits['train']):,} images an epoch")
        if not run.resume:
            trainer.clear_checkpoints(checkpoint_folder)
        settings = {name: value for part in recipe.values() for name, value in part.items() if name != "tensorboard"}
        settings |= {"vocabulary": len(tokenizer)} | ({"bundle": digest_of(base.model)} if base else {})
        reports = [trainer.tensorboard_report(Path(run.artifacts, "logs", name))] if train_options.tensorboard else []
        fitting = trainer.Trainer(
            model, train_options, checkpoint_folder, settings, words.glove_frozen_epochs, reports=reports
        )
        progress = fitting.train(phases)
        transfer.interpolate_weights(model, begun, train_options.keep_base)

        parts = bundle.as_saved(parts)  # scored as it will be loaded
        told = {"data": dataset.name, "precision": precision, "glove_coverage": coverage}
        told["best epoch"] = progress.best_epoch + 1
        weights = Path(model_options.encoder_weights).name  # no path of this machine goes into a bundle
        told |= {"begun with": Path(run.bundle).resolve().name} if base else {}
        about = recipe | told | {"model": asdict(model_options) | {"encoder_weights": weights}}
        files, cards, calibration = judge(parts.captioner(), pixels or grids, splits, source, about)
        parts = replace(parts, calibration=calibration)
        files |= tell(name, progress, splits, cards, parts.captioner(), without_data=run.without_data)
        bundle.save(folder, parts, files=given_away(files) if run.without_data else files, about=about)
        trainer.clear_checkpoints(checkpoint_folder)
    print(f'\ncaptioning.load("{folder}") opens it; its card is {folder}/README.md')


def begin(run: RunOptions, model_options: ModelOptions) -> tuple[Any, ModelOptions]:
    """The captioner that training begins with, None if it begins with nothing, and the network's choices and widths."""
    if not run.bundle:
        return None, model_options
    from captioning.inference import bundle

    own = bundle.check(Path(run.bundle)).model_options
    chosen = {name: getattr(own, name) for name in NETWORK}
    return bundle.load(run.bundle, encoder_weights=model_options.encoder_weights), replace(model_options, **chosen)


def retrain(*records: Any) -> None:
    """Fine-tunes a bundle on what people corrected; it goes on with its own words, network and search."""
    from captioning.runtime.keras_import import import_keras

    import_keras()
    from captioning.runtime.devices import data_parallel
    from captioning.training.from_feedback import retrain

    data, words, model_options, train_options, _, run, _ = records
    with data_parallel(run.devices):
        retrain(data, words, model_options, train_options, run)


def read_data(data: DataOptions, train_options: TrainOptions, run: RunOptions) -> tuple[Any, Path]:
    """The data set without what cannot be read, and its folder; what is wrong with it is printed."""
    from captioning.data.check import clean, inspect
    from captioning.data.load import load_dataset

    dataset, source = load_dataset(data, Path(run.downloads), seed=train_options.seed, smoke=run.smoke)
    findings = inspect(dataset, cache=Path(run.cache))
    print(findings.text())
    dataset = clean(dataset, findings, run.max_unreadable)
    if not dataset.splits.get("train"):
        others = ", ".join(split for split in dataset.splits if split != "train")
        raise DataError(f"{source} has no image to train on, only {others}; put some in a train split.")
    return dataset, source


def learn_words(
    split: dict[Path, list[str]],
    words: WordOptions,
    model_options: ModelOptions,
    train_options: TrainOptions,
    run: RunOptions,
) -> tuple[Any, Any, float | None]:
    """The tokenizer of the training captions, the first vectors of its words, and the share that GloVe has."""
    from captioning.data.glove import word_vectors
    from captioning.data.tokenizer import SPECIAL_WORDS, Tokenizer

    captions = [caption for captions in split.values() for caption in captions]
    tokenizer = Tokenizer.fit(captions, min_count=words.min_count)
    if len(tokenizer) == len(SPECIAL_WORDS):
        raise DataError(f"No word is seen {words.min_count} times in the training captions; lower --min-count.")
    ids = [tokenizer.encode(caption) for caption in captions]
    glove_folder = Path(run.glove_folder)
    vectors, coverage, told = word_vectors(
        words.glove,
        tokenizer.words,
        ids,
        dimension=model_options.embedding_units,
        folder=glove_folder,
        seed=train_options.seed,
    )
    print(f"{len(tokenizer):,} words; {told}")
    return tokenizer, vectors, coverage


def look(
    splits: dict[str, Any],
    model_options: ModelOptions,
    train_options: TrainOptions,
    run: RunOptions,
    engine: EngineOptions | None = None,
    base: Any = None,
) -> tuple[Any, Any, Any, str]:
    """The encoder, the grids it sees (none if it is trained from the start), the pixels if it is trained at all."""
    from captioning.encoders.registry import build_encoder, digest_of, image_size_of, weights_key
    from captioning.training.trainer import set_precision

    read, size = (
        reader(splits, model_options, train_options, run),
        image_size_of(model_options.encoder, model_options.image_size),
    )
    is_tiny, pixels = model_options.encoder == "tiny", None
    if is_tiny or train_options.fine_tune_epochs:
        pixels = read(Path(run.cache, f"pixels-{size}"), elsewhere=lookers(engine, size))
    encoder = base.encoder if base else build_encoder(model_options.encoder, model_options.encoder_weights, size)
    if is_tiny:
        return encoder, None, pixels, set_precision(train_options.precision)
    key = digest_of(encoder) if base else weights_key(model_options.encoder_weights)
    kept = Path(run.cache, f"{model_options.encoder}-{size}-{key}")
    grids = read(
        kept, encoder=encoder, elsewhere=lookers(engine, size, (model_options.encoder, model_options.encoder_weights))
    )
    return encoder, grids, pixels, set_precision(train_options.precision)


def look_again(
    encoder: Any, splits: dict[str, Any], model_options: ModelOptions, train_options: TrainOptions, run: RunOptions
) -> Any:
    """The grids that an encoder sees as it is now."""
    from captioning.encoders.registry import digest_of

    kept = Path(run.cache, f"{model_options.encoder}-{encoder.input_shape[1]}-{digest_of(encoder)}")
    return reader(splits, model_options, train_options, run)(kept, encoder=encoder)


def reader(splits: dict[str, Any], model_options: ModelOptions, train_options: TrainOptions, run: RunOptions) -> Any:
    """What looks at all images, at those for training in several views, and keeps what it sees in a folder."""
    from captioning.data.image_index import index_images
    from captioning.encoders.features import read_features
    from captioning.encoders.registry import image_size_of

    facts = index_images([image for images in splits.values() for image in images], Path(run.cache))
    images = {image: fact.sha256 for image, fact in facts.items()}
    size = image_size_of(model_options.encoder, model_options.image_size)
    others = dict.fromkeys(splits["train"], range(1, train_options.views))
    return functools.partial(read_features, images, image_size=size, views=others)


def lookers(engine: EngineOptions | None, size: int, encoder: tuple[str, str] | None = None) -> Any:
    """Who looks at images in this process's stead: workers of a Ray cluster, each with the encoder, or nobody."""
    if not engine or engine.engine == "local":
        return None
    from captioning.extras import ray_engine

    return functools.partial(ray_engine.look_at, size=size, encoder=encoder, workers=engine.workers)


def assemble(
    tokenizer: Any,
    vectors: Any,
    encoder: Any,
    options: tuple[ModelOptions, DecodeOptions, RunOptions],
    *,
    is_tuned: bool,
    base: Any = None,
) -> Any:
    """A captioner's parts before the training, with all that another one has learnt if it begins with that.

    Its network holds the encoder where that is tuned, or is our own.
    """
    from captioning.decoder.model import CaptionModel, config_for
    from captioning.decoder.transfer import copy_matching_weights
    from captioning.encoders.registry import OWN
    from captioning.inference.bundle import Parts

    model_options, decoding, run = options
    is_own = model_options.encoder in OWN  # then nobody can fetch it
    is_tuned = is_tuned or bool(base and base.model.encoder)
    is_held = is_tuned or is_own
    model = CaptionModel(config_for(model_options, len(tokenizer), encoder.output_shape), encoder if is_held else None)
    model.build()
    if vectors is not None:
        model.set_word_vectors(vectors)
    if base:
        print(f"{run.bundle} knows {copy_matching_weights(model, tokenizer.words, base):,} of these words")
    whole = is_own or not (is_tuned and run.without_encoder)
    return Parts(model, tokenizer, None if is_held else encoder, model_options, decoding, whole=whole)


def plan(
    captioner: Any,
    encoder: Any,
    splits: dict[str, Any],
    seen: tuple[Any, Any],
    train_options: TrainOptions,
    encode: Any,
    *,
    again: Callable[[], Any] | None = None,
) -> Iterator[Any]:
    """The phases, one when the one before is over: the decoder on grids, or all of it on pixels; if asked for, the
    encoder's last stage too, and self-critical training of the decoder.

    `again` gives the grids of the encoder as it is after fine-tuning; self-critical training is slow on pixels.
    """
    from captioning.encoders.registry import open_last_stage
    from captioning.evaluation.scoring import validator
    from captioning.training.batches import examples_of
    from captioning.training.trainer import Phase

    grids, pixels = seen
    freeze = functools.partial(setattr, encoder, "trainable", False)
    unfreeze = functools.partial(open_last_stage, encoder)

    def phase(name: str, epochs: int, rate: float, features: Any, prepare: Any, lesson: Any = None) -> Phase:
        train, dev = (examples_of(features, splits[split], encode) for split in ("train", "dev"))
        return Phase(name, epochs, rate, train, dev, validator(captioner, features, splits["dev"]), prepare, lesson)

    if train_options.epochs:
        yield phase(
            "fit", train_options.epochs, train_options.learning_rate, grids or pixels, freeze if grids else lambda: None
        )
    if grids and pixels:
        yield phase("fine-tune", train_options.fine_tune_epochs, train_options.fine_tune_rate, pixels, unfreeze)
    if train_options.reinforce_epochs:
        features = again() if grids and pixels and again else pixels or grids
        critic = self_critic(captioner, splits["train"], train_options, length=encode(["a"]).shape[1] - 1)
        yield phase("reinforce", train_options.reinforce_epochs, train_options.reinforce_rate, features, freeze, critic)


def self_critic(captioner: Any, split: dict[Path, list[str]], train_options: TrainOptions, *, length: int) -> Any:
    """What makes the lessons of self-critical training; captions have up to `length` words, the end counted."""
    from captioning.data.tokenizer import normalise
    from captioning.training.self_critical import SelfCritical

    references = [[" ".join(normalise(text)) for text in captions] for captions in split.values()]
    split_words = captioner.tokenizer.split
    return SelfCritical(
        captioner.model, lambda ids: " ".join(split_words(ids)), references, options=train_options, length=length
    ).lesson


def judge(
    captioner: Any, features: Any, splits: dict[str, Any], source: Path, about: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """The files of predictions, scores, and best and worst captions; the score cards; what confidence is worth."""
    from captioning.evaluation.model_card import sheet
    from captioning.evaluation.predictions import predictions_of, predictions_text
    from captioning.evaluation.scene_scores import judge as judge_scenes
    from captioning.evaluation.scoring import calibrate, caption_split, card_text, score_card

    files, cards, calibration = {}, {}, None
    options = captioner.options
    if options.strategy == "beam":
        options = replace(options, num_captions=options.num_beams)  # confidence asks how far the beams agree
    for split in [split for split in ("dev", "test") if splits.get(split)]:
        captions = caption_split(captioner, features, splits[split], options)
        predictions = predictions_of(captions, splits[split], source)
        files[f"predictions-{split}.jsonl"] = predictions_text(predictions)
        cards[split] = score_card(predictions, split=split, about=about)
        if (source / "scenes.json").exists():
            cards[split]["scenes"] = judge_scenes(captions, splits[split], source)
        if split == "dev":
            files["sheet.png"] = sheet(predictions, splits[split])
            if found := calibrate(captions, splits[split]):
                calibration, cards[split]["calibration_error"] = found[0], round(found[1], 4)
        print("\n" + card_text(cards[split]))
    return files | {"scores.json": json.dumps(cards, indent=2)}, cards, calibration


def tell(
    name: str,
    progress: Any,
    splits: dict[str, Any],
    cards: dict[str, Any],
    captioner: Any,
    *,
    without_data: bool = False,
) -> dict[str, Any]:
    """The bundle's files for people: history, curves, eight images' captions epoch by epoch, a strip, the card."""
    from captioning.data.images import read_image
    from captioning.evaluation.model_card import model_card
    from captioning.evaluation.scoring import WATCHED
    from captioning.plots.attention import curves_png, strip_png
    from captioning.training.trainer import SCORE, history_csv

    watched, num_images = list(splits["dev"])[:WATCHED], len(splits["train"])
    captions = captioner.caption(watched)
    image, caption = max(zip(watched, captions, strict=True), key=lambda pair: len(pair[1].words))
    counts = {"words": len(captioner.tokenizer), "images": num_images}
    learning = {"images": [image.name for image in watched], "captions": progress.samples}
    return {
        "history.csv": history_csv(progress.history),
        "loss.png": curves_png(progress.history, SCORE),
        "learning.json": json.dumps(learning, indent=1, ensure_ascii=False),
        "attention.png": strip_png(read_image(image), caption.words, caption.text),
        "README.md": model_card(name, cards, captions, **counts, without_data=without_data),
    }


def given_away(files: dict[str, Any]) -> dict[str, Any]:
    """The files of a bundle without those that hold pictures or captions of the data."""
    from captioning.evaluation.model_card import OF_THE_DATA

    return {name: data for name, data in files.items() if name not in OF_THE_DATA}


if __name__ == "__main__":
    sys.exit(main())
