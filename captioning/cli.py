"""The command line: train, caption, undo, attention, app, evaluate, calibrate, compare, check, doctor, export.

Parses, calls one function, prints; the modules that need Keras are imported only then.
"""

import argparse
import functools
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import captioning
from captioning.arguments import IN_THE_BOX, PROGRAM, build_parser
from captioning.errors import CaptioningError
from captioning.options import ENGINES, CaptionEngineOptions, DataOptions
from captioning.runtime.environment import explain_missing_packages
from captioning.runtime.flags import from_flags


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; a person's mistake ends in one sentence and an exit status."""
    flags, unknown = build_parser().parse_known_args(arguments)
    if unknown:
        flags.refuse(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        with explain_missing_packages(flags.command):
            return _commands()[flags.command](flags)
    except CaptioningError as error:
        _tell(str(error))
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of the output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _commands() -> dict[str, Callable[[argparse.Namespace], int]]:
    return {
        "train": _train,
        "caption": _caption,
        "undo": _undo,
        "attention": _attention,
        "app": _app,
        "evaluate": _evaluate,
        "calibrate": _calibrate,
        "compare": _compare,
        "check": _check,
        "doctor": _doctor,
        "export": _export,
    }


def _tell(sentence: str) -> None:
    print(f"captioning: {sentence}", file=sys.stderr)


def _bundles(flags: argparse.Namespace) -> list[Path]:
    nearby = Path(IN_THE_BOX)  # in a checkout, and shorter to read
    return [Path(each) for each in flags.bundle or [nearby if nearby.exists() else captioning.in_the_box()]]


def _load(flags: argparse.Namespace, *bundles: Path) -> Any:
    from captioning.inference.bundle import runs_on_onnx
    from captioning.runtime.keras_import import import_keras_alone

    folders = bundles or _bundles(flags)
    engine = flags.engine if flags.engine in ENGINES else "auto"  # not given, or ray
    if not runs_on_onnx(folders, engine):
        import_keras_alone()
    return captioning.load(*folders, encoder_weights=flags.encoder_weights, engine=engine)


def _dataset(flags: argparse.Namespace) -> Any:
    """The data set that the flags describe, and the folder that its images are named in."""
    from captioning.data.load import load_dataset

    columns = {name: getattr(flags, name) for name in ("images", "image_column", "caption_column")}
    options, language = DataOptions(data=flags.data or ".", **columns), getattr(flags, "language", None) or ""
    return load_dataset(options, Path("data"), seed=0, language=language)


def _train(flags: argparse.Namespace) -> int:
    from captioning.training.settings import recipe_options

    options = recipe_options(flags)
    from captioning.runtime.keras_import import import_keras

    import_keras()
    from captioning.training import from_feedback, languages, recipe

    extends = languages.add_languages if options.run.add_languages else recipe.train
    try:
        (from_feedback.retrain if options.run.from_feedback else extends)(options)
    except KeyboardInterrupt:
        _tell("Stopped at once; what was last saved is kept.")
        return 130
    return 0


def _app(flags: argparse.Namespace) -> int:
    from captioning.app import server
    from captioning.serving.pool import find_bundles

    service = server.Service.asked(flags)
    folders = flags.bundle or find_bundles(flags.artifacts, flags.encoder_weights)
    strict = bool(flags.bundle)
    options = {"encoder_weights": flags.encoder_weights, "engine": flags.engine}
    server.serve(folders, service, **options, feedback=flags.feedback, strict=strict)
    return 0


def _caption(flags: argparse.Namespace) -> int:
    from captioning.inference.folder import caption_folder, caption_images, find_images_in, require_confidence
    from captioning.inference.writers import LeftOut, OutputOptions, open_writer

    engine = from_flags(flags, CaptionEngineOptions())
    given = {entry.name: getattr(flags, entry.name) for entry in fields(OutputOptions)}
    options = OutputOptions(**given | {"language": flags.language or ""})
    images = find_images_in(flags.paths)
    if engine.engine == "ray":
        from captioning.extras import ray_engine

        ray_engine.require_ray()
    captioner = _load(flags)  # with Ray too: for its search, and to refuse a bundle that workers could not load
    search = from_flags(flags, captioner.options)
    require_confidence(captioner.speaking(search.language), search, options.threshold)
    caption = functools.partial(caption_images, captioner, search=search, begin=flags.begin)
    if engine.engine == "ray":
        load = functools.partial(captioning.load, *_bundles(flags), encoder_weights=flags.encoder_weights)
        caption = functools.partial(
            ray_engine.caption_images, load, search=search, workers=engine.workers, begin=flags.begin
        )
    with open_writer(options, several=search.num_captions > 1) as writer:
        summary = caption_folder(caption, images, writer, LeftOut(options, writer))
    if options.place or len(images) > 1 or summary.problems or summary.left_out:
        _tell(summary.text(options.place, options.left_out))
    if summary.written and options.journal_path:
        _tell(f"{PROGRAM} undo {options.journal_path} takes this back.")
    return 1 if summary.problems else 0


def _undo(flags: argparse.Namespace) -> int:
    from captioning.inference.metadata.changes import undo

    undone, earlier = undo(flags.journal)
    _tell(undone.text(earlier))
    return 1 if undone.problems else 0


def _tell_left_out(problems: Sequence[str], total: int) -> None:
    if problems:
        _tell("\n".join([f"{len(problems):,} of {total:,} images left out:", *(f"  {each}" for each in problems)]))


def _attention(flags: argparse.Namespace) -> int:
    from captioning.data.images import read_image
    from captioning.inference.records import mark
    from captioning.plots import attention
    from captioning.runtime.files import atomic_write

    output = flags.output or Path(f"{flags.image.stem}-attention.png")
    kind = output.suffix.lower()
    if kind not in (".png", ".gif"):
        raise CaptioningError(f"{output} cannot be drawn: a name that ends in .png or .gif was expected.")
    image = read_image(flags.image)
    captioner = _load(flags)
    caption = captioner.caption(image, from_flags(flags, captioner.options))
    if kind == ".gif":
        data = attention.walk_gif(image, caption.words)
    else:
        data = attention.strip_png(image, caption.words, str(caption))
    atomic_write(output, data)
    print(f"{caption}{mark(caption.verdict)}")
    if attention.is_attention_static(caption.words):
        _tell(f"{attention.STILL}; see {PROGRAM} doctor {(flags.bundle or [IN_THE_BOX])[0]}.")
    return 0


def _evaluate(flags: argparse.Namespace) -> int:
    from captioning.evaluation.scoring import card_text, evaluate
    from captioning.evaluation.word_use import word_use_text

    dataset, root = _dataset(flags)
    captioner = _load(flags)
    card, problems = evaluate(
        captioner,
        dataset,
        root,
        split=flags.split,
        predictions=flags.predictions,
        options=from_flags(flags, captioner.options),
        java=flags.java,
    )
    parts = [json.dumps(card, indent=2)] if flags.json else [card_text(card), word_use_text(card["word_use"])]
    print(*filter(None, parts), sep="\n")
    _tell_left_out(problems, card["images"] + len(problems))
    return 0


def _calibrate(flags: argparse.Namespace) -> int:
    from captioning.evaluation.calibration import calibrate_bundle
    from captioning.evaluation.scoring import images_of

    dataset, _ = _dataset(flags)
    [folder], images = flags.bundle, images_of(dataset, flags.split)
    measured, problems = calibrate_bundle(Path(folder), _load(flags), images, data=dataset.name)
    print(f"{folder}: {measured.text()}, on {len(images) - len(problems):,} images of {dataset.name}, {flags.split}")
    _tell_left_out(problems, len(images))
    return 0


def _compare(flags: argparse.Namespace) -> int:
    from captioning.evaluation.compare import caption_and_score, compare, report

    paths = [flags.first, *flags.others]
    if not flags.data:
        print(compare(paths, flags.split, captions=flags.captions))
        return 0
    dataset, root = _dataset(flags)
    load = functools.partial(_load, flags)
    scored, problems = caption_and_score(paths, dataset, root, flags.split, load=load)
    print(report(scored, captions=flags.captions))
    _tell_left_out(problems, scored[0].card["images"] + len(problems))
    return 0


def _check(flags: argparse.Namespace) -> int:
    from captioning.data.check import inspect
    from captioning.data.glove import known_words

    dataset, _ = _dataset(flags)
    print(inspect(dataset, known_words=known_words(Path(flags.glove)) if flags.glove else None).text())
    return 0


def _doctor(flags: argparse.Namespace) -> int:
    from captioning.evaluation.doctor import examine
    from captioning.evaluation.scoring import images_of

    split = images_of(_dataset(flags)[0], flags.split) if flags.data else None
    captioner = _load(flags)
    about = json.loads(Path(flags.bundle[0], "config.json").read_text("utf-8")).get("about", {})
    findings = examine(captioner, about, split)
    print(*(finding.text() for finding in findings), sep="\n")
    return 0 if all(finding.healthy for finding in findings) else 1


def _export(flags: argparse.Namespace) -> int:
    from captioning.evaluation.scoring import images_of, score_files
    from captioning.extras import export

    if flags.format is None and (flags.output or flags.int8 or flags.data):
        raise CaptioningError("--output, --int8 and --data belong to --format; add --format onnx.")
    if flags.format and not flags.output:
        raise CaptioningError(f"--format {flags.format} needs --output DIR, the folder of the files.")
    score = functools.partial(score_files, images_of(_dataset(flags)[0], flags.split)) if flags.data else None
    if flags.format is None:
        print(export.into_bundle(flags.bundle))
    else:
        print(export.to_folder(flags.bundle, flags.output, flags.format, int8=flags.int8, score=score))
    return 0
