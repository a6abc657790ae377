"""Adds languages to a finished captioner: each learns words and low-rank changes to the decoder, all else is kept.

The encoder and the base's own captions stay exactly as they were.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from captioning.data.glove import fit_glove
from captioning.data.tokenizer import Tokenizer, word_counts
from captioning.decoder.languages import LanguageModel, from_bytes, shapes_of, to_bytes
from captioning.errors import DataError
from captioning.evaluation.predictions import predictions_text
from captioning.evaluation.scoring import WATCHED, ScoredSplit, card_text
from captioning.inference import bundle
from captioning.inference.bundle import Parts
from captioning.inference.bundle_files import CONFIG, open_own, read_config
from captioning.inference.bundle_writer import write
from captioning.inference.captioner import UNSTATED, Captioner
from captioning.inference.languages import Language
from captioning.inference.records import alt_text
from captioning.options import RecipeOptions
from captioning.runtime import strict_json
from captioning.runtime.files import exclusive_lock
from captioning.training import recipe
from captioning.training.checkpoint import Progress, check_overwrite, clear_checkpoints, has_checkpoint
from captioning.training.inputs import Inputs, TrainingData, load_data, load_features, reload_grids
from captioning.training.optimization import set_precision
from captioning.training.trainer import history_csv

RANK = 32  # of the changes to the decoder
CARD = "README.md"


def add_languages(options: RecipeOptions) -> None:
    """Train the languages of --add-languages one after the other, and save each with the bundle so far."""
    run, source = options.run, Path(options.run.bundle)
    folder, _ = recipe.folders_of(options, source.resolve().name)
    for number, code in enumerate(run.add_languages):
        own = replace(run, bundle=str(source), name=f"{folder.name}-{code}", add_languages=())
        _, checkpoints = recipe.folders_of(replace(options, run=own), "")
        with exclusive_lock(checkpoints):
            is_begun = has_checkpoint(checkpoints / "checkpoint.npz")
            is_done = (folder / CONFIG).exists() and code in bundle.check(folder).languages
            if not (run.resume and is_done and not is_begun):
                own = replace(own, resume=run.resume and is_begun)
                check_overwrite(checkpoints if number else folder, checkpoints, own)
                _add(replace(options, run=own), code, folder)
                clear_checkpoints(checkpoints)
        source = folder
    if "graphs" in read_config(folder):
        from captioning.extras import export

        print(export.into_bundle(folder))
    print(f"\nSaved {folder}; try python -m captioning caption photo.jpg --bundle {folder} --language {code}")


def _add(options: RecipeOptions, code: str, folder: Path) -> None:
    source = Path(options.run.bundle)
    keras.utils.set_random_seed(options.training.seed)
    training = replace(options.training, fine_tune_epochs=0)
    options, base = recipe.load_base(replace(options, training=training))
    assert base is not None
    if code == (base.options.language or UNSTATED):
        raise DataError(f"{code} is the own language of {source}; leave it out of --add-languages.")
    options = replace(options, decoding=replace(options.decoding, language=code))
    data = load_data(options)
    is_held = base.model.encoder is not None
    grids = reload_grids(data, options, base.encoder) if is_held else load_features(data, options, base).grids
    inputs = Inputs(base.encoder, grids, None)
    precision = set_precision(options.training.precision)
    vocabulary = _vocabulary(data, options)
    model = _network(base, vocabulary.tokenizer, data, options)
    parts = Parts(model, vocabulary.tokenizer, None if model.encoder else base.encoder, options.model, options.decoding)
    print(f"{code}: {sum(np.size(value) for value in model.numbers().values()):,} weights of its own, {precision}")
    settings = recipe.checkpoint_settings(options, vocabulary, base) | {"language": code}
    progress = recipe.fit(parts, inputs, data, options, settings)

    keras.config.set_dtype_policy("float32")
    shapes = shapes_of(base.model, len(vocabulary.tokenizer), RANK)
    numbers = from_bytes(to_bytes(model.numbers(), shapes), shapes)  # scored as it will be loaded
    language = Language(vocabulary.tokenizer, numbers)
    facts = recipe.describe(options, data, vocabulary, precision) | {"language": code}
    facts["best epoch"] = progress.best_epoch + 1
    scores = recipe.score_held_out(language.captioner(base, code), inputs.grids, data, facts)
    language = replace(language, calibration=scores.calibration)
    print(*(f"\n{card_text(card)}" for card in scores.cards.values()), sep="\n")
    files = _files(source, code, scores.splits, progress, without_data=options.run.without_data)
    save_with_language(source, folder, code, language, base, files)


def _vocabulary(data: TrainingData, options: RecipeOptions) -> recipe.Vocabulary:
    captions = [caption for captions in data.splits["train"].values() for caption in captions]
    tokenizer = Tokenizer.fit(captions, min_count=options.words.min_count).spelt(captions)
    vocabulary = recipe.Vocabulary(tokenizer, word_counts(captions))
    print(f"{len(tokenizer):,} words; {vocabulary.left_out()}")
    return vocabulary


def _network(base: Captioner, tokenizer: Tokenizer, data: TrainingData, options: RecipeOptions) -> LanguageModel:
    model = LanguageModel(base.model, len(tokenizer), RANK)
    captions = [tokenizer.encode(caption) for captions in data.splits["train"].values() for caption in captions]
    width, seed = base.model.config.embedding_units, options.training.seed
    model.set_word_vectors(fit_glove(captions, len(tokenizer), dimension=width, seed=seed))
    return model


def _files(
    source: Path, code: str, splits: Mapping[str, ScoredSplit], progress: Progress, *, without_data: bool
) -> dict[str, bytes | str]:
    """Return the files of a language for people: scores, history, predictions, and the model card with its part."""
    cards = {name: split.card for name, split in splits.items()}
    files: dict[str, bytes | str] = {
        f"scores-{code}.json": strict_json.dumps(cards, indent=2),
        f"history-{code}.csv": history_csv(progress.history),
    }
    if not without_data:
        files |= {
            f"predictions-{name}-{code}.jsonl": predictions_text(each.predictions) for name, each in splits.items()
        }
    examples = "\n".join(f"- {alt_text(str(caption))}" for caption in splits["dev"].captions[:WATCHED])
    scores = "\n\n".join(map(card_text, cards.values()))
    part = f"## Language {code}\n\n```\n{scores}\n```\n\n{examples}\n"
    card = (source / CARD).read_text(encoding="utf-8") if CARD in read_config(source)["files"] else ""
    card = re.sub(rf"\n*## Language {code}\n.*?(?=\n## |\Z)", "", card, flags=re.DOTALL).rstrip("\n")
    return files | {CARD: f"{card}\n\n{part}".lstrip("\n")}


def save_with_language(
    source: Path, folder: Path, code: str, language: Language, base: Captioner, files: Mapping[str, bytes | str]
) -> None:
    """Write a bundle that is `source` with one language more to `folder`; `files` are those that change besides."""
    config: dict[str, Any] = read_config(source)
    kept: dict[str, bytes | str] = {}
    for name in config.pop("files"):
        with open_own(source, name) as file:
            kept[name] = file.read()
    languages = config.get("languages", {}) | {code: language.record()}
    write(folder, kept | language.files(base.model, code) | dict(files), config | {"languages": languages})
