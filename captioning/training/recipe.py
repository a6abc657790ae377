"""The recipe, top to bottom: data, vocabulary, features, model, phases, scores, bundle."""

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from captioning.data.glove import word_vectors
from captioning.data.tokenizer import SPECIAL_WORDS, UNKNOWN, Tokenizer, word_counts
from captioning.decoder.config import config_for
from captioning.decoder.model import CaptionModel
from captioning.decoder.transfer import choose_share, copy_matching_weights, interpolate_weights, start_new_words
from captioning.encoders.features import Features
from captioning.encoders.registry import NETWORKS, digest_of
from captioning.errors import DataError
from captioning.evaluation.base_comparison import compare_with_base, verdict
from captioning.evaluation.model_card import model_card
from captioning.evaluation.scoring import WATCHED, Scores, card_text, score_images, score_splits
from captioning.extras.export import after_training
from captioning.inference import bundle
from captioning.inference.bundle import Parts
from captioning.inference.captioner import Captioner
from captioning.options import DECODER, NETWORK, ModelOptions, RecipeOptions
from captioning.runtime.devices import data_parallel
from captioning.runtime.files import exclusive_lock
from captioning.training.callbacks import tensorboard_report
from captioning.training.checkpoint import Progress, check_overwrite, clear_checkpoints
from captioning.training.inputs import Inputs, Split, TrainingData, load_data, load_features, reload_grids
from captioning.training.optimization import set_precision
from captioning.training.phases import build_phases
from captioning.training.report import HELD_OUT, choose_calibration, next_commands, report_files, without_data
from captioning.training.settings import adapt_to_base, adapt_to_size
from captioning.training.trainer import Trainer

LEAST_COMPARED = 5  # dev images: on fewer no fraction of the base model is chosen
LEAST_DEV = 100  # images: with fewer the best epoch, by their score, is a matter of chance


@dataclass(frozen=True)
class Vocabulary:
    """The words of a captioner and the vectors that their embedding starts from."""

    tokenizer: Tokenizer
    counts: Counter[str]  # of all words in the training captions
    vectors: np.ndarray | None = None  # (V, embedding_units); None: random
    coverage: float | None = None  # share of the words that the GloVe file holds

    def left_out(self) -> str:
        """Return how many words, and what share of the captions, are outside the vocabulary."""
        left_out = [count for word, count in self.counts.items() if self.tokenizer.id(word) == UNKNOWN]
        share = sum(left_out) / max(1, self.counts.total())
        return f"{len(left_out):,} words left out ({share:.1%} of the captions' text), trained as <unk>"


def train(options: RecipeOptions) -> None:
    """Train one captioner and write its bundle to artifacts/<name>/."""
    run = options.run
    options, base = load_base(options)
    keras.utils.set_random_seed(options.training.seed)
    folder, checkpoints = folders_of(options, default_name(options))
    with data_parallel(run.devices), exclusive_lock(checkpoints):
        check_overwrite(folder, checkpoints, run)
        data = load_data(options)
        if data.language and not base:
            options = replace(options, decoding=replace(options.decoding, language=data.language))
        if base:
            options = adapt_to_size(options, len(data.splits["train"]))
        vocabulary = build_vocabulary(data.splits["train"], options, base)
        inputs = load_features(data, options, base)
        precision = set_precision(options.training.precision)
        facts = describe(options, data, vocabulary, precision)
        # before training, which may change the encoder that both share
        base_scores = score_held_out(base, inputs.grids or inputs.pixels, data, facts) if base else None

        parts = assemble(vocabulary, inputs, options, base)
        print(f"{parts.model.count_params():,} weights, {precision}, {len(data.splits['train']):,} images per epoch")
        settings = checkpoint_settings(options, vocabulary, base)
        initial_weights = parts.model.get_weights() if base else []
        progress = fit(parts, inputs, data, options, settings)
        facts["keep_base"] = mix_base(parts, initial_weights, inputs, data, options)

        parts = bundle.as_saved(parts)  # scored as it will be loaded
        facts["best epoch"] = progress.best_epoch + 1
        scores = score_held_out(parts.captioner(), inputs.pixels or inputs.grids, data, facts)
        if base_scores:
            compare_with_base(scores, base_scores, facts["base"])
        calibration, notes = choose_calibration(scores, base, facts.get("base", ""))
        facts["calibration"] = "dev" if scores.calibration else "base model" if calibration else "none"
        print(*(f"\n{card_text(card)}" for card in scores.cards.values()), sep="\n")
        print("", *([verdict(scores.cards)] if base else []), *notes, sep="\n")
        files = report_files(progress, scores, data.splits)
        counts = {"words": len(vocabulary.tokenizer), "images": len(data.splits["train"])}
        examples = scores.splits["dev"].captions[:WATCHED]
        files["README.md"] = model_card(
            folder.name, scores.cards, examples, **counts, notes=notes, without_data=run.without_data
        )
        parts = replace(parts, calibration=calibration, familiarity=scores.familiarity)
        bundle.save(folder, parts, files=without_data(files) if run.without_data else files, about=facts)
        clear_checkpoints(checkpoints)
    print(f"\nSaved {folder}; its model card is {folder}/README.md.")
    print(after_training(folder, parts.captioner()))
    print(next_commands(folder, parts, options.model.encoder_weights))


def fit(parts: Parts, inputs: Inputs, data: TrainingData, options: RecipeOptions, settings: dict[str, Any]) -> Progress:
    """Run all phases of a training, or those that are left of it; `settings` must be those of its checkpoint."""
    run, model = options.run, parts.model
    folder, checkpoints = folders_of(options, default_name(options))
    phases = build_phases(
        parts.captioner(),
        inputs,
        data.splits,
        options.training,
        length=options.words.caption_length,
        reload_grids=lambda: reload_grids(data, options, inputs.encoder),
        sentences=data.sentences,
    )
    if not run.resume:
        clear_checkpoints(checkpoints)
    logs = Path(run.artifacts, "logs", folder.name)
    reports = [tensorboard_report(logs)] if options.training.tensorboard else []
    trainer = Trainer(
        model,
        options.training,
        checkpoints,
        settings,
        options.words.glove_frozen_epochs,
        reports=reports,
        keep_last=bool(run.bundle) and len(data.splits["dev"]) < LEAST_DEV,
    )
    return trainer.train(phases)


def mix_base(
    parts: Parts, initial_weights: Sequence[np.ndarray], inputs: Inputs, data: TrainingData, options: RecipeOptions
) -> float:
    """Mix the weights of the base model back in; return their fraction.

    A fraction that no flag sets is chosen on dev: captions in a style of their own need less of the base model.
    """
    share, dev = options.training.keep_base, data.splits["dev"]
    is_held_out = dev is not data.splits["train"] and len(dev) >= LEAST_COMPARED
    if not (share and is_held_out and "keep_base" in options.unset):
        interpolate_weights(parts.model, initial_weights, share)
        return share
    features = inputs.pixels or inputs.grids
    assert features is not None, "an encoder is frozen, trained or both"
    score = functools.partial(score_images, parts.captioner(), features, dev)
    share = choose_share(parts.model, initial_weights, (share, share / 2, 0.0), score)
    print(f"--keep-base {share:g} chosen on {len(dev):,} dev images: the fraction of the base model's weights")
    return share


def score_held_out(
    captioner: Captioner, features: Features | None, data: TrainingData, facts: Mapping[str, Any]
) -> Scores:
    """Score a captioner on dev and, if there is one, test."""
    assert features is not None, "an encoder is frozen, trained or both"
    splits = {name: data.splits[name] for name in HELD_OUT if name in data.splits}
    return score_splits(captioner, features, splits, source=data.source, about=facts)


def load_base(options: RecipeOptions) -> tuple[RecipeOptions, Captioner | None]:
    """Load the captioner that the training starts from, if there is one, and adopt its encoder, widths and search."""
    run, weights = options.run, options.model.encoder_weights
    if not run.bundle:
        return options, None
    own, base = (
        bundle.check(Path(run.bundle)).model_options,
        bundle.load(run.bundle, encoder_weights=weights, engine="keras"),
    )
    model = replace(options.model, **{name: getattr(own, name) for name in NETWORK})
    return adapt_to_base(replace(options, model=model), base.options), base


def default_name(options: RecipeOptions) -> str:
    """Return the name of a bundle that was given none: that of the data, then that of the encoder."""
    data = options.data
    subject = Path(data.data).resolve().stem if data.data else data.dataset
    return f"{subject}-{options.model.encoder}".removesuffix("-tiny")


def folders_of(options: RecipeOptions, name: str) -> tuple[Path, Path]:
    """Return the folder of the bundle and that of its checkpoints; --name goes before `name`."""
    folder = Path(options.run.artifacts, options.run.name or name)
    return folder, folder.with_name(f"{folder.name}.training")


def build_vocabulary(split: Split, options: RecipeOptions, base: Captioner | None = None) -> Vocabulary:
    """Collect the words of the training captions and the vectors that these words start from.

    A vocabulary that starts from that of `base` keeps all its words.
    """
    captions = [caption for captions in split.values() for caption in captions]
    counts, least = word_counts(captions), options.words.min_count
    if base:
        vocabulary = Vocabulary(base.tokenizer.extended(captions, min_count=least), counts)
        new = len(vocabulary.tokenizer) - len(base.tokenizer)
        print(f"{len(base.tokenizer):,} words of {options.run.bundle}, {new:,} new words (seen {least} or more times)")
        print(vocabulary.left_out())
        return vocabulary
    tokenizer = Tokenizer.fit(captions, min_count=least)
    if len(tokenizer) == len(SPECIAL_WORDS):
        raise DataError(f"No word occurs {least} times in the training captions; lower --min-count.")
    if options.decoding.language:
        tokenizer = tokenizer.spelt(captions)
    vectors, coverage, sentence = word_vectors(
        options.words.glove,
        tokenizer.words,
        [tokenizer.encode(caption) for caption in captions],
        dimension=options.model.embedding_units,
        folder=Path(options.run.glove_folder),
        seed=options.training.seed,
    )
    vocabulary = Vocabulary(tokenizer, counts, vectors, coverage)
    print(f"{len(tokenizer):,} words; {vocabulary.left_out()}; {sentence}")
    return vocabulary


def assemble(vocabulary: Vocabulary, inputs: Inputs, options: RecipeOptions, base: Captioner | None = None) -> Parts:
    """Build the parts of an untrained captioner; those of `base`, if there is one, set its weights.

    The model holds the encoder where that is trained, and where it is our own, which nobody can download.
    """
    is_own = options.model.encoder in NETWORKS
    is_trained = inputs.pixels is not None or bool(base and base.model.encoder)
    is_held = is_trained or is_own
    config = config_for(options.model, len(vocabulary.tokenizer), inputs.encoder.output_shape)
    model = CaptionModel(config, inputs.encoder if is_held else None)
    model.build()
    if vocabulary.vectors is not None:
        model.set_word_vectors(vocabulary.vectors)
    if base:
        tokenizer, counts = vocabulary.tokenizer, vocabulary.counts
        copy_matching_weights(model, tokenizer.words, base)
        new = [counts[word] for word in tokenizer.words[len(base.tokenizer) :]]
        start_new_words(model, new, sum(counts[word] for word in counts if tokenizer.id(word) == UNKNOWN))
    elif options.run.decoder_from:
        start_decoder(model, vocabulary.tokenizer, options.model, options.run.decoder_from)
    whole = is_own or not (is_trained and options.run.without_encoder)
    encoder = None if is_held else inputs.encoder
    return Parts(model, vocabulary.tokenizer, encoder, options.model, options.decoding, whole=whole)


def start_decoder(model: CaptionModel, tokenizer: Tokenizer, options: ModelOptions, folder: str) -> None:
    """Copy the decoder of a bundle of the same widths, whatever its encoder."""
    own = bundle.check(Path(folder)).model_options
    for name in DECODER:
        theirs, ours = getattr(own, name), getattr(options, name)
        if theirs != ours:
            flag = f"--{name.replace('_', '-')}"
            raise DataError(f"{flag} is {theirs} in {folder} and {ours} here: add {flag} {theirs}.")
    shared = copy_matching_weights(
        model, tokenizer.words, bundle.load_decoder(folder), same_encoder=own.encoder == options.encoder
    )
    print(f"The decoder starts from that of {folder}; {shared:,} words are in both vocabularies.")


def checkpoint_settings(options: RecipeOptions, vocabulary: Vocabulary, base: Captioner | None) -> dict[str, Any]:
    """Return what must be the same for a training to be resumed."""
    records = (options.data, options.words, options.model, options.training)
    settings = {name: value for record in records for name, value in asdict(record).items() if name != "tensorboard"}
    settings["vocabulary"] = len(vocabulary.tokenizer)
    return settings | ({"bundle": digest_of(base.model)} if base else {})


def describe(options: RecipeOptions, data: TrainingData, vocabulary: Vocabulary, precision: str) -> dict[str, Any]:
    """Return the facts of a training that its bundle and its score cards hold."""
    weights = Path(options.model.encoder_weights).name  # no path of this machine goes into a bundle
    facts = {
        "data": data.name,
        "words": asdict(options.words) | {"sentences": Path(options.words.sentences).name},
        "model": asdict(options.model) | {"encoder_weights": weights},
        "training": asdict(options.training),
        "precision": precision,
        "glove_coverage": vocabulary.coverage,
    }
    return facts | ({"base": Path(options.run.bundle).resolve().name} if options.run.bundle else {})
