"""Fine-tunes a bundle on what people corrected, mixed with images of its data, and reports what that changed.

Vocabulary and encoder stay as they are: a few corrections teach which words to use, not how to encode images. With a
frozen encoder the features of every image are computed once.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from captioning.data.feedback import Captions, FeedbackStore
from captioning.data.image_index import DuplicateFinder, ImageFacts
from captioning.data.tokenizer import UNKNOWN, Tokenizer, normalise
from captioning.encoders.features import Features, read_features
from captioning.encoders.registry import digest_of, weights_key
from captioning.errors import DataError
from captioning.evaluation.metrics import CiderD
from captioning.evaluation.model_card import model_card
from captioning.evaluation.scoring import GREEDY, WATCHED, Scores, Validation, caption_split, score_splits
from captioning.extras.export import after_training
from captioning.inference import bundle
from captioning.inference.captioner import Captioner
from captioning.options import ModelOptions, RecipeOptions, TrainOptions
from captioning.runtime.devices import data_parallel
from captioning.runtime.files import exclusive_lock
from captioning.training.batches import Examples, examples_of
from captioning.training.checkpoint import check_overwrite, clear_checkpoints
from captioning.training.inputs import Split, TrainingData, grids_folder, load_data
from captioning.training.recipe import folders_of
from captioning.training.report import choose_calibration, next_commands, report_files
from captioning.training.trainer import SCORE, Phase, Trainer

REPLAYED = 3  # images of the data for every corrected one
EPOCH = 1000  # images of the data that an epoch has at least, if the data has as many
MOST_REPEATS = 20  # of a corrected image in an epoch; more, and a few images are learnt by heart at the cost of all
MAX_UNKNOWN = 1 / 3  # of the words
LISTED = 10
HELD_OUT = ("test", "dev")
SCORED = (*HELD_OUT, "corrected")
CHANGED = """
It is `{base}`, fine-tuned on {corrected:,} corrected images and, each epoch, {replayed:,} of its own data. The
corrected images are those it was trained on: their scores show that it learnt them, not that others like them are
better. CIDEr-D weighs words by how rare they are among the images scored, so of very few images it says nothing.
"""

Splits = dict[str, Split]  # corrected, train, replayed (some of train), dev, and test where the data has one


def retrain(options: RecipeOptions) -> None:
    """Fine-tune `run.bundle` on the corrections in `run.from_feedback`; write artifacts/<its name>-feedback/."""
    run, train_options = options.run, options.training
    with data_parallel(run.devices):
        keras.utils.set_random_seed(train_options.seed)
        base = Path(run.bundle).resolve().name
        folder, checkpoints = folders_of(options, f"{base}-feedback")
        with exclusive_lock(checkpoints):
            check_overwrite(folder, checkpoints, run)
            corrections = read_corrections(Path(run.from_feedback))
            captioner = bundle.load(run.bundle, encoder_weights=options.model.encoder_weights, engine="keras")
            corrections = usable(corrections, captioner.tokenizer)
            data = load_data(options, others=corrections)
            splits = choose_splits(corrections, captioner.tokenizer, data, options)
            features = load_grids(captioner, splits, data, options)
            counts = {split: len(splits[split]) for split in ("corrected", "replayed")}
            facts = {"data": data.source.name, "base": base, **counts, "training": asdict(train_options)}
            scored = {name: splits[name] for name in SCORED if name in splits}
            before = score_splits(captioner, features, scored, source=data.source, about=facts)

            phase = build_phase(captioner, features, splits, train_options, length=options.words.caption_length)
            if not run.resume:
                clear_checkpoints(checkpoints)
            settings = checkpoint_settings(options, captioner, splits["corrected"], data)
            progress = Trainer(captioner.model, train_options, checkpoints, settings).train([phase])

            parts = bundle.as_saved(parts_of(captioner))
            after = score_splits(parts.captioner(), features, scored, source=data.source, about=facts)
            calibration, notes = choose_calibration(after, captioner, base)
            parts = replace(parts, calibration=calibration, familiarity=after.familiarity)
            facts["calibration"] = "dev" if after.calibration else "base model" if calibration else "none"
            print(f"\n{examples(before, after, splits['corrected'])}\n\n{comparison(before, after)}", *notes, sep="\n")
            files = report_files(progress, after, splits)
            cards = after.cards | {f"{name} before": card for name, card in before.cards.items()}
            files["scores.json"] = json.dumps(cards, indent=2)
            numbers = {"words": len(parts.tokenizer), "images": len(splits["train"])}
            card = card_of(folder.name, before, after, **numbers, notes=notes)
            files["README.md"] = card + CHANGED.format(base=base, **counts)
            bundle.save(folder, parts, files=files, about=facts)
            clear_checkpoints(checkpoints)
    print(f"\nSaved {folder}; {run.bundle} is unchanged.")
    print(after_training(folder, parts.captioner()))
    print(next_commands(folder, parts, options.model.encoder_weights))


def read_corrections(path: Path) -> Captions:
    """Return the corrected captions of a feedback database, whichever bundle generated the wrong ones."""
    if not path.is_file():
        raise DataError(f"There is no feedback database {path}; the app creates one with the first feedback.")
    corrections = FeedbackStore(path).corrections()
    if not corrections:
        raise DataError(f"{path} holds no corrected caption; correct some before training on them.")
    return corrections


def parts_of(captioner: Captioner) -> bundle.Parts:
    """Return the parts of a captioner that was loaded."""
    model, encoder = captioner.model, captioner.encoder
    model_options = ModelOptions(encoder=encoder.name, image_size=captioner.image_size)
    separate = None if model.encoder else encoder
    return bundle.Parts(model, captioner.tokenizer, separate, model_options, captioner.options, captioner.calibration)


def usable(corrections: Captions, tokenizer: Tokenizer) -> Captions:
    """Return the corrections of whose words enough are in the vocabulary; name and count those with other words."""
    texts = [text for own in corrections.values() for text in own]
    unknown = {text: [word for word in normalise(text) if tokenizer.id(word) == UNKNOWN] for text in texts}
    refused = {text: strange for text, strange in unknown.items() if _is_foreign(tokenizer.encode(text))}
    partly = {text: strange for text, strange in unknown.items() if strange and text not in refused}
    print(f"{len(texts):,} corrected captions of {len(corrections):,} images")
    _list("with words that are not in the vocabulary, which become <unk>", partly)
    _list("left out: more than a third of the words are not in the vocabulary", refused)
    if len(refused) == len(unknown):
        raise DataError("No correction can be used: train a captioner anew with captions that use these words.")
    kept = {image: [text for text in own if text not in refused] for image, own in corrections.items()}
    return {image: own for image, own in kept.items() if own}


def _is_foreign(tokens: list[int]) -> bool:
    return tokens.count(UNKNOWN) > MAX_UNKNOWN * len(tokens)


def _list(title: str, entries: dict[str, list[str]]) -> None:
    if entries:
        print(f"{title}: {len(entries):,}")
        for text, strange in list(entries.items())[:LISTED]:
            print(f"  {text}  ({', '.join(dict.fromkeys(strange))})")


def choose_splits(corrections: Captions, tokenizer: Tokenizer, data: TrainingData, options: RecipeOptions) -> Splits:
    """Return what is trained and scored on; no copy of a corrected image is in dev or test."""
    train = data.splits["train"]
    if _is_foreign([token for own in train.values() for text in own for token in tokenizer.encode(text)]):
        raise DataError(f"{data.source} is not what {options.run.bundle} learnt from; give the data of its training.")
    corrected = readable(corrections, data.index)
    replayed = sample(train, max(EPOCH, REPLAYED * len(corrected)), options.training.seed)
    held_out = {name: data.splits[name] for name in HELD_OUT if data.splits.get(name, train) is not train}
    held_out = {name: split for name, split in without_copies(held_out, corrected, data.index).items() if split}
    return {"corrected": corrected, "train": train, "replayed": replayed, "dev": replayed} | held_out


def readable(corrections: Captions, index: Mapping[Path, ImageFacts]) -> Captions:
    """Return the corrections whose images can be read; name the others."""
    damaged = {image: index[image].error for image in corrections if index[image].error}
    for image, why in damaged.items():
        print(f"left out: the corrected image {image.name}: {why}")
    if len(damaged) == len(corrections):
        raise DataError("No corrected image can be read; put back the folder beside the feedback database.")
    return {image: own for image, own in corrections.items() if image not in damaged}


def without_copies(held_out: Splits, corrected: Captions, index: Mapping[Path, ImageFacts]) -> Splits:
    """Return what was held out, less the images of which people corrected copies: none is scored that was learnt."""
    copies = DuplicateFinder({image: index[image] for image in corrected})
    kept: Splits = {
        name: {image: own for image, own in split.items() if not copies.find(index[image])}
        for name, split in held_out.items()
    }
    left_out = sum(map(len, held_out.values())) - sum(map(len, kept.values()))
    if left_out:
        print(f"left out of dev and test, since people corrected copies of them: {left_out:,} images")
    return kept


def sample(split: Split, count: int, seed: int) -> Split:
    """Return `count` images of a split, chosen by the seed, in their order."""
    images = list(split)
    chosen = np.random.default_rng(seed).permutation(len(images))[:count]
    return {images[number]: split[images[number]] for number in sorted(chosen)}


def load_grids(captioner: Captioner, splits: Splits, data: TrainingData, options: RecipeOptions) -> Features:
    """Load the grids of the captioner's encoder, those of the training images that are not replayed apart."""
    encoder = captioner.encoder
    images = dict.fromkeys(image for name, split in splits.items() if name != "train" for image in split)
    key = digest_of(encoder) if captioner.model.encoder else weights_key(options.model.encoder_weights)
    folder = grids_folder(options, encoder, key)
    return read_features(data.digests(images), folder, image_size=captioner.image_size, encoder=encoder)


def build_phase(
    captioner: Captioner, features: Features, splits: Splits, options: TrainOptions, *, length: int
) -> Phase:
    """Return the one phase: all but the encoder is trained on corrected and replayed images."""
    encode = functools.partial(captioner.tokenizer.encode_batch, length=length)
    corrected, replayed, dev = (
        examples_of(features, splits[name], encode) for name in ("corrected", "replayed", "dev")
    )
    freeze = functools.partial(setattr, captioner.encoder, "trainable", False)
    validate = validator(captioner, features, splits["dev"], splits["corrected"])
    train = mixed(corrected, replayed, options.captions_per_image)
    return Phase("feedback", options.epochs, options.learning_rate, train, dev, validate, freeze)


def mixed(corrected: Examples, replayed: Examples, captions_per_image: int) -> Examples:
    """Join both: corrected images repeated to a quarter of all, each with as many captions as a replayed one."""
    repeats = min(MOST_REPEATS, max(1, round(len(replayed) / REPLAYED / len(corrected))))
    tokens = [np.resize(own, (max(captions_per_image, len(own)), own.shape[1])) for own in corrected.tokens]
    rows = np.concatenate([np.tile(corrected.rows, (repeats, 1)), replayed.rows])
    names = [*corrected.names] * repeats + [*replayed.names]
    return Examples(replayed.array, rows, tokens * repeats + replayed.tokens, names)


def validator(captioner: Captioner, features: Features, dev: Split, corrected: Split) -> Callable[[], Validation]:
    """Return what is called after each epoch: a score to which dev and the corrected images add the same."""
    images = [*dev, *corrected]
    references = [[" ".join(normalise(text)) for text in own] for own in (*dev.values(), *corrected.values())]
    cider = CiderD(references)

    def validate() -> Validation:
        captions = [str(caption) for caption in caption_split(captioner, features, images, GREEDY)]
        scores = cider.score([" ".join(normalise(caption)) for caption in captions], references)
        kept, learnt = float(scores[: len(dev)].mean()), float(scores[len(dev) :].mean())
        return Validation({SCORE: (kept + learnt) / 2, "dev": kept, "corrected": learnt}, captions[:WATCHED])

    return validate


def examples(before: Scores, after: Scores, corrected: Split) -> str:
    """Return captions of some corrected images: before, as corrected, and after."""
    captions = (scores.splits["corrected"].captions for scores in (before, after))
    rows = zip(next(captions), corrected.values(), next(captions), strict=True)
    texts = [f"before     {was}\ncorrected  {own[0]}\nafter      {now}" for was, own, now in rows]
    return "\n\n".join(texts[:LISTED])


def comparison(before: Scores, after: Scores) -> str:
    """Return the scores before and after, as a table in Markdown."""
    lines = ["| |" + "".join(f" {split} before | after |" for split in after.cards)]
    lines.append("|---|" + "---|---|" * len(after.cards))
    for metric in after.cards["corrected"]["scores"]:
        pairs = [(old["scores"], after.cards[split]["scores"]) for split, old in before.cards.items()]
        cells = [f" {old[metric]['value']:.3f} | {new[metric]['value']:.3f} |" for old, new in pairs]
        lines.append(f"| {metric} |" + "".join(cells))
    return "\n".join(lines)


def card_of(name: str, before: Scores, after: Scores, *, words: int, images: int, notes: Sequence[str] = ()) -> str:
    """Return the model card, with the scores before and after at its end."""
    cards = {split: after.cards[split] for split in HELD_OUT if split in after.cards}
    card = model_card(name, cards, after.splits["dev"].captions[:WATCHED], words=words, images=images, notes=notes)
    return f"{card}\n## What people's corrections changed\n\n{comparison(before, after)}\n"


def checkpoint_settings(
    options: RecipeOptions, captioner: Captioner, corrected: Split, data: TrainingData
) -> dict[str, Any]:
    """Return what must be the same for a training to be resumed."""
    text = json.dumps([[image.name, own] for image, own in corrected.items()])
    corrections = hashlib.sha256(text.encode()).hexdigest()[:16]
    facts = {"bundle": digest_of(captioner.model), "corrections": corrections, "data": data.source.name}
    return asdict(options.training) | facts
