"""Fine-tunes a bundle on what people corrected, mixed with images of its data, and says what that changed.

The words and the eye stay as they are: a few corrections teach what to say, not how to see, and an eye that does
not change looks at every image once. Knows nothing of how the feedback came about.
"""

import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from captioning.data.check import clean, inspect
from captioning.data.feedback import Captions, FeedbackStore
from captioning.data.image_index import DuplicateFinder, index_images
from captioning.data.images import read_image
from captioning.data.load import load_dataset
from captioning.data.tokenizer import UNKNOWN, Tokenizer, normalise
from captioning.encoders.features import Features, read_features
from captioning.encoders.registry import digest_of, weights_key
from captioning.errors import DataError
from captioning.evaluation.metrics import CiderD
from captioning.evaluation.model_card import model_card, sheet
from captioning.evaluation.predictions import Prediction, predictions_of, predictions_text
from captioning.evaluation.scoring import GREEDY, WATCHED, Validation, calibrate, caption_split, score_card
from captioning.inference import bundle
from captioning.inference.captioner import Caption, Captioner
from captioning.options import DataOptions, ModelOptions, RunOptions, TrainOptions, WordOptions
from captioning.plots.attention import curves_png, strip_png
from captioning.runtime.files import exclusive_lock
from captioning.training.batches import Examples, examples_of
from captioning.training.checkpoint import Progress
from captioning.training.trainer import SCORE, Phase, Trainer, check_overwrite, clear_checkpoints, history_csv

REPLAYED = 3  # images of the data for every corrected one
EPOCH = 1000  # images of the data that an epoch has at least, where there are so many
MOST_REPEATS = 20  # of a corrected image in an epoch; few would else be learnt by heart at the cost of all others
MAX_UNKNOWN = 1 / 3  # of the words
LISTED = 10
HELD_OUT = ("test", "dev")
SCORED = (*HELD_OUT, "corrected")
CHANGED = """
It is `{taught}`, fine-tuned on {corrected:,} corrected images and, each epoch, {replayed:,} of its own data. The
corrected images are those it was trained on: their scores say that it learnt them, not that others like them are
better. CIDEr-D weighs words by how rare they are among the images scored, so of very few images it says nothing.
"""

Splits = dict[str, Captions]  # corrected, train, replayed (some of train), dev, and test where the data has one


@dataclass(frozen=True)
class Judged:
    """A captioner's captions of what is scored, the same beside their references, and the score cards, by split."""

    captions: dict[str, list[Caption]]
    predictions: dict[str, list[Prediction]]
    cards: dict[str, dict[str, Any]]


def retrain(
    data: DataOptions, words: WordOptions, model_options: ModelOptions, train_options: TrainOptions, run: RunOptions
) -> None:
    """Fine-tunes `run.bundle` on the corrections in `run.from_feedback`; writes artifacts/<its name>-feedback/."""
    import keras

    keras.utils.set_random_seed(train_options.seed)
    base = Path(run.bundle).resolve().name
    name = run.name or f"{base}-feedback"
    folder, checkpoint_folder = Path(run.artifacts, name), Path(run.artifacts, f"{name}.training")
    with exclusive_lock(checkpoint_folder):
        check_overwrite(folder, checkpoint_folder, run)
        corrections = read_corrections(Path(run.from_feedback))
        captioner = bundle.load(run.bundle, encoder_weights=model_options.encoder_weights)
        corrections = learnable(corrections, captioner.tokenizer)
        splits, source = gather(corrections, captioner.tokenizer, data, train_options, run)
        features = look(captioner, splits, model_options, Path(run.cache))
        counts = {split: len(splits[split]) for split in ("corrected", "replayed")}
        about = {"data": source.name, "taught": base, **counts, "training": asdict(train_options)}
        before = judge(captioner, features, splits, source, about)

        encode = functools.partial(captioner.tokenizer.encode_batch, length=words.caption_length)
        phase = plan(captioner, features, splits, train_options, encode)
        begun = {"bundle": digest_of(captioner.model), "corrections": _spelt(splits["corrected"]), "data": source.name}
        if not run.resume:
            clear_checkpoints(checkpoint_folder)
        progress = Trainer(captioner.model, train_options, checkpoint_folder, asdict(train_options) | begun).train(
            [phase]
        )

        parts = bundle.as_saved(parts_of(captioner))
        after = judge(parts.captioner(), features, splits, source, about)
        found = calibrate(after.captions["dev"], splits["dev"])
        parts = replace(parts, calibration=found and found[0])
        print(f"\n{examples(before, after, splits)}\n\n{comparison(before, after)}")
        card = card_of(name, before, after, splits, len(parts.tokenizer)) + CHANGED.format(base=base, **counts)
        files = tell(progress, before, after, splits) | {"README.md": card}
        bundle.save(folder, parts, files=files, about=about)
        clear_checkpoints(checkpoint_folder)
    print(f'\ncaptioning.load("{folder}") opens it; {run.bundle} is as it was')


def read_corrections(path: Path) -> Captions:
    """The corrected captions of a feedback database, whichever bundle had said the wrong ones."""
    if not path.is_file():
        raise DataError(f"There is no feedback database {path}; the app keeps one once somebody said something.")
    corrections = FeedbackStore(path).corrections()
    if not corrections:
        raise DataError(f"{path} holds no corrected caption; correct some before training on them.")
    return corrections


def parts_of(captioner: Captioner) -> bundle.Parts:
    """What an opened captioner is made of."""
    model, encoder = captioner.model, captioner.encoder
    model_options = ModelOptions(encoder=encoder.name, image_size=captioner.image_size)
    separate = None if model.encoder else encoder
    return bundle.Parts(model, captioner.tokenizer, separate, model_options, captioner.options, captioner.calibration)


def learnable(corrections: Captions, tokenizer: Tokenizer) -> Captions:
    """The corrections of whose words enough are known; those with unknown words are named and counted."""
    texts = [text for own in corrections.values() for text in own]
    unknown = {text: [word for word in normalise(text) if tokenizer.id(word) == UNKNOWN] for text in texts}
    refused = {text: strange for text, strange in unknown.items() if _is_foreign(tokenizer.encode(text))}
    partly = {text: strange for text, strange in unknown.items() if strange and text not in refused}
    print(f"{len(texts):,} corrected captions of {len(corrections):,} images")
    _list("with words that the captioner never learnt, which become <unk>", partly)
    _list("left out, since it never learnt more than a third of the words", refused)
    if len(refused) == len(unknown):
        raise DataError("No correction can be learnt: train a captioner anew with captions that use these words.")
    kept = {image: [text for text in own if text not in refused] for image, own in corrections.items()}
    return {image: own for image, own in kept.items() if own}


def _is_foreign(tokens: list[int]) -> bool:
    return tokens.count(UNKNOWN) > MAX_UNKNOWN * len(tokens)


def _list(title: str, entries: dict[str, list[str]]) -> None:
    if entries:
        print(f"{title}: {len(entries):,}")
        for text, strange in list(entries.items())[:LISTED]:
            print(f"  {text}  ({', '.join(dict.fromkeys(strange))})")


def gather(
    corrections: Captions, tokenizer: Tokenizer, data: DataOptions, train_options: TrainOptions, run: RunOptions
) -> tuple[Splits, Path]:
    """What is learnt from and scored on, and the data's folder; no copy of a corrected image is in dev or test."""
    dataset, source = load_dataset(data, Path(run.downloads), seed=train_options.seed, smoke=run.smoke)
    dataset = clean(dataset, inspect(dataset, cache=Path(run.cache)), run.max_unreadable)
    train = dataset.splits.get("train", {})
    if not train or _is_foreign([token for own in train.values() for text in own for token in tokenizer.encode(text)]):
        raise DataError(f"{source} is not what {run.bundle} learnt from; give the data of its training.")
    corrected = readable(corrections, Path(run.cache))
    replayed = sample(train, max(EPOCH, REPLAYED * len(corrected)), train_options.seed)
    held = without_copies({split: dataset.splits.get(split, {}) for split in HELD_OUT}, corrected, Path(run.cache))
    splits = {"corrected": corrected, "train": train, "replayed": replayed, "dev": replayed}
    return splits | {split: images for split, images in held.items() if images}, source


def readable(corrections: Captions, cache: Path) -> Captions:
    """The corrections whose images can be read; the others are named."""
    damaged = {image: facts.error for image, facts in index_images(list(corrections), cache).items() if facts.error}
    for image, why in damaged.items():
        print(f"left out: the corrected image {image.name}: {why}")
    if len(damaged) == len(corrections):
        raise DataError("No corrected image can be read; put back the folder beside the feedback database.")
    return {image: own for image, own in corrections.items() if image not in damaged}


def without_copies(held: Splits, corrected: Captions, cache: Path | None = None) -> Splits:
    """What was held out, less the images of which people corrected copies; so none is scored that was learnt."""
    copies = DuplicateFinder(index_images(list(corrected), cache))
    facts = index_images([image for images in held.values() for image in images], cache)
    kept = {
        split: {image: own for image, own in images.items() if not copies.find(facts[image])}
        for split, images in held.items()
    }
    left_out = sum(map(len, held.values())) - sum(map(len, kept.values()))
    if left_out:
        print(f"left out of dev and test, since people corrected copies of them: {left_out:,} images")
    return kept


def sample(split: Captions, count: int, seed: int) -> Captions:
    """So many images of a split, chosen by the seed, in their order."""
    images = list(split)
    chosen = np.random.default_rng(seed).permutation(len(images))[:count]
    return {images[number]: split[images[number]] for number in sorted(chosen)}


def look(captioner: Captioner, splits: Splits, model_options: ModelOptions, cache: Path) -> Features:
    """The grids that the captioner's own eye sees, computed where the cache lacks them."""
    encoder, size = captioner.encoder, captioner.image_size
    images = dict.fromkeys(image for name, split in splits.items() if name != "train" for image in split)
    known_by = {image: facts.sha256 for image, facts in index_images(list(images), cache).items()}
    key = digest_of(encoder) if captioner.model.encoder else weights_key(model_options.encoder_weights)
    return read_features(known_by, cache / f"{encoder.name}-{size}-{key}", image_size=size, encoder=encoder)


def judge(captioner: Captioner, features: Features, splits: Splits, source: Path, about: dict[str, Any]) -> Judged:
    """Captions and scores of what was held out and of the corrected images."""
    options = captioner.options
    if options.strategy == "beam":
        options = replace(options, num_captions=options.num_beams)  # confidence asks how far the beams agree
    scored = {split: splits[split] for split in SCORED if split in splits}
    captions = {split: caption_split(captioner, features, images, options) for split, images in scored.items()}
    predictions = {split: predictions_of(captions[split], images, source) for split, images in scored.items()}
    cards = {split: score_card(predictions[split], split=split, about=about) for split in scored}
    return Judged(captions, predictions, cards)


def plan(
    captioner: Captioner,
    features: Features,
    splits: Splits,
    train_options: TrainOptions,
    encode: Callable[..., np.ndarray],
) -> Phase:
    """The one phase: all but the eye learns from corrected and replayed images."""
    corrected, replayed, dev = (
        examples_of(features, splits[name], encode) for name in ("corrected", "replayed", "dev")
    )
    freeze = functools.partial(setattr, captioner.encoder, "trainable", False)
    validate = validator(captioner, features, splits["dev"], splits["corrected"])
    train = mixed(corrected, replayed, train_options.captions_per_image)
    return Phase("feedback", train_options.epochs, train_options.learning_rate, train, dev, validate, freeze)


def mixed(corrected: Examples, replayed: Examples, captions_per_image: int) -> Examples:
    """Both together: corrected images repeated to a quarter of all, each with as many captions as one replayed."""
    repeats = min(MOST_REPEATS, max(1, round(len(replayed) / REPLAYED / len(corrected))))
    tokens = [np.resize(own, (max(captions_per_image, len(own)), own.shape[1])) for own in corrected.tokens]
    rows = np.concatenate([np.tile(corrected.rows, (repeats, 1)), replayed.rows])
    names = [*corrected.names] * repeats + [*replayed.names]
    return Examples(replayed.array, rows, tokens * repeats + replayed.tokens, names)


def validator(captioner: Captioner, features: Features, dev: Captions, corrected: Captions) -> Callable[[], Any]:
    """What training asks after each epoch: a score in which what was kept and what was learnt weigh the same."""
    images = [*dev, *corrected]
    references = [[" ".join(normalise(text)) for text in own] for own in (*dev.values(), *corrected.values())]
    cider = CiderD(references)

    def validate() -> Validation:
        captions = [str(caption) for caption in caption_split(captioner, features, images, GREEDY)]
        scores = cider.score([" ".join(normalise(caption)) for caption in captions], references)
        kept, learnt = float(scores[: len(dev)].mean()), float(scores[len(dev) :].mean())
        return Validation({SCORE: (kept + learnt) / 2, "dev": kept, "corrected": learnt}, captions[:WATCHED])

    return validate


def examples(before: Judged, after: Judged, splits: Splits) -> str:
    """What some corrected images were called, should be called and are called now."""
    rows = zip(before.captions["corrected"], splits["corrected"].values(), after.captions["corrected"], strict=True)
    return "\n\n".join(f"said    {was}\nshould  {own[0]}\nsays    {now}" for was, own, now in list(rows)[:LISTED])


def comparison(before: Judged, after: Judged) -> str:
    """The scores before and after, as a table in Markdown."""
    lines = ["| |" + "".join(f" {split} before | after |" for split in after.cards)]
    lines.append("|---|" + "---|---|" * len(after.cards))
    for metric in after.cards["corrected"]["scores"]:
        pairs = [(old["scores"], after.cards[split]["scores"]) for split, old in before.cards.items()]
        cells = [f" {old[metric]['value']:.3f} | {new[metric]['value']:.3f} |" for old, new in pairs]
        lines.append(f"| {metric} |" + "".join(cells))
    return "\n".join(lines)


def card_of(name: str, before: Judged, after: Judged, splits: Splits, words: int) -> str:
    """The model card, with the scores before and after at its end."""
    cards = {split: after.cards[split] for split in HELD_OUT if split in after.cards}
    captions = after.captions["dev"][:WATCHED]
    card = model_card(name, cards, captions, words=words, images=len(splits["train"]))
    return f"{card}\n## What people's corrections changed\n\n{comparison(before, after)}\n"


def tell(progress: Progress, before: Judged, after: Judged, splits: Splits) -> dict[str, bytes | str]:
    """The bundle's other files for people; what they wrote themselves stays in the feedback database."""
    watched = list(splits["dev"])[:WATCHED]
    image, caption = max(zip(watched, after.captions["dev"], strict=False), key=lambda pair: len(pair[1].words))
    learning = {"images": [image.name for image in watched], "captions": progress.samples}
    predictions = {split: predictions_text(after.predictions[split]) for split in HELD_OUT if split in splits}
    return {
        **{f"predictions-{split}.jsonl": text for split, text in predictions.items()},
        "scores.json": json.dumps(after.cards | {f"{s} before": card for s, card in before.cards.items()}, indent=2),
        "history.csv": history_csv(progress.history),
        "loss.png": curves_png(progress.history, SCORE),
        "learning.json": json.dumps(learning, indent=1, ensure_ascii=False),
        "attention.png": strip_png(read_image(image), caption.words, caption.text),
        "sheet.png": sheet(after.predictions["dev"], splits["dev"]),
    }


def _spelt(captions: Captions) -> str:
    text = json.dumps([[image.name, own] for image, own in captions.items()])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
