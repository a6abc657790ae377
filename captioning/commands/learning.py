"""Commands around training: train, check, calibrate, doctor, export."""

import argparse
import functools
import json
from pathlib import Path

from captioning.commands.arguments import SPLITS, Command, add_columns, add_data, add_encoder_weights, add_engine
from captioning.commands.loading import dataset_of, load, tell, tell_left_out
from captioning.errors import CaptioningError
from captioning.options import RECORDS, RecipeOptions
from captioning.runtime.flags import Parser, add_flags

FORMATS = ("onnx", "openvino")


def _add_train(command: Parser) -> None:
    add_flags(command, *RECORDS)


def _add_check(command: Parser) -> None:
    add_data(command)
    command.add_argument("--glove", default="", metavar="FILE", help="a glove.*.txt or .zip: report which words it has")


def _add_calibrate(command: Parser) -> None:
    command.add_argument("bundle", nargs=1, metavar="BUNDLE", help="folder of the bundle, whose config.json is changed")
    add_data(command)
    split = "split to measure on, whose images it was not trained on (default: %(default)s)"
    command.add_argument("--split", default="dev", choices=SPLITS, help=split)
    add_encoder_weights(command)
    add_engine(command)


def _add_doctor(command: Parser) -> None:
    command.add_argument("bundle", nargs=1, metavar="BUNDLE", help="folder of the bundle")
    command.add_argument(
        "--data", default="", metavar="PATH", help="test on captioned images of yours, not on drawings"
    )
    add_columns(command)
    command.add_argument("--split", default="dev", choices=SPLITS, help="split of --data (default: %(default)s)")
    add_encoder_weights(command)
    add_engine(command)


def _add_export(command: Parser) -> None:
    command.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder of the bundle")
    command.add_argument(
        "--format",
        choices=FORMATS,
        help="write files for other programs, weights included; default: graphs into the bundle",
    )
    command.add_argument("--output", type=Path, metavar="DIR", help="folder of the files of --format")
    command.add_argument("--int8", action="store_true", help="--format onnx: step and encoder in 8 bits where it pays")
    command.add_argument("--data", default="", metavar="PATH", help="--int8: score both on captioned images of yours")
    add_columns(command)
    command.add_argument("--split", default="dev", choices=SPLITS, help="split of --data (default: %(default)s)")


def _train(flags: argparse.Namespace) -> int:
    from captioning.training.settings import recipe_options

    options = recipe_options(flags)
    if options.run.captioner:
        return _finetune(options)
    from captioning.runtime.keras_import import import_keras

    import_keras()
    from captioning.training import from_feedback, languages, recipe

    extends = languages.add_languages if options.run.add_languages else recipe.train
    try:
        (from_feedback.retrain if options.run.from_feedback else extends)(options)
    except KeyboardInterrupt:
        tell("Stopped at once; what was last saved is kept.")
        return 130
    return 0


def _finetune(options: RecipeOptions) -> int:
    from captioning.training.published import finetune

    try:
        finetune(options)
    except KeyboardInterrupt:
        tell("Stopped at once; the same command with --resume goes on from what was last saved.")
        return 130
    return 0


def _check(flags: argparse.Namespace) -> int:
    from captioning.data.check import inspect
    from captioning.data.glove import known_words

    dataset, _ = dataset_of(flags)
    print(inspect(dataset, known_words=known_words(Path(flags.glove)) if flags.glove else None).text())
    return 0


def _calibrate(flags: argparse.Namespace) -> int:
    from captioning.evaluation.calibration import calibrate_bundle
    from captioning.evaluation.label_scale import calibrate_labels
    from captioning.evaluation.scoring import images_of

    dataset, _ = dataset_of(flags)
    [folder], images, captioner = flags.bundle, images_of(dataset, flags.split), load(flags)
    measured, problems = calibrate_bundle(Path(folder), captioner, images, data=dataset.name)
    print(f"{folder}: {measured.text()}, on {len(images) - len(problems):,} images of {dataset.name}, {flags.split}")
    labels = calibrate_labels(Path(folder), captioner, images)
    print(f"{folder}: {labels.text() if labels else 'no labels, too few images whose captions agree on a noun'}")
    tell_left_out(problems, len(images))
    return 0


def _doctor(flags: argparse.Namespace) -> int:
    from captioning.evaluation.doctor import examine
    from captioning.evaluation.scoring import images_of

    split = images_of(dataset_of(flags)[0], flags.split) if flags.data else None
    captioner = load(flags)
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
    score = functools.partial(score_files, images_of(dataset_of(flags)[0], flags.split)) if flags.data else None
    if flags.format is None:
        print(export.into_bundle(flags.bundle))
    else:
        print(export.to_folder(flags.bundle, flags.output, flags.format, int8=flags.int8, score=score))
    return 0


TRAIN = Command(
    "train",
    "train a captioner on captioned images",
    (
        "                                      # Flickr8k with ResNet50; downloads what is missing",
        "--dataset scenes                      # the built-in drawn scenes; downloads nothing",
        "--data my-pictures                    # your own captioned pictures, in any common layout",
        "--data my-pictures --bundle artifacts/flickr8k  # the same, starting from a trained captioner",
        "--data my-pictures --captioner blip   # fine-tune a large published model instead",
    ),
    add=_add_train,
    run=_train,
)

CHECK = Command(
    "check DATA",
    "report on captioned data before training on it",
    ("my-pictures", "captions.csv --images photos --glove glove.6B.zip"),
    add=_add_check,
    run=_check,
)

CALIBRATE = Command(
    "calibrate BUNDLE DATA",
    "measure a bundle's confidence, and write it into it",
    ("artifacts/flickr8k my-pictures", "artifacts/mine captions.csv --images photos --split test"),
    add=_add_calibrate,
    run=_calibrate,
)

DOCTOR = Command(
    "doctor BUNDLE",
    "check a bundle for the usual failures",
    ("artifacts/flickr8k", "artifacts/mine --data my-pictures --split dev"),
    add=_add_doctor,
    run=_doctor,
)

EXPORT = Command(
    "export BUNDLE",
    "write a bundle's graphs, for ONNX Runtime or other programs",
    (
        "artifacts/mine                        # caption it without TensorFlow from now on",
        "artifacts/mine --format onnx --output phone          # files that need no bundle",
        "artifacts/mine --format onnx --int8 --output web --data my-pictures   # smaller; scores both",
    ),
    add=_add_export,
    run=_export,
)
