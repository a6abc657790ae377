"""Commands that caption: caption, undo, attention."""

import argparse
import datetime
import functools
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import captioning
from captioning.commands.arguments import (
    IN_THE_BOX,
    PROGRAM,
    Command,
    add_bundle,
    add_captioner,
    add_encoder_weights,
    add_engine,
    add_search,
    add_translator,
)
from captioning.commands.loading import bundles_of, load_speaking, tell, tell_cascade
from captioning.errors import CaptioningError
from captioning.options import CaptionEngineOptions, DecodeOptions
from captioning.runtime.flags import Parser, add_group, from_flags


def _add_caption(command: Parser) -> None:
    command.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="images, or folders of images")
    add_bundle(command, published=False)
    place = command.add_mutually_exclusive_group()
    place.add_argument("--output", type=Path, metavar="FILE", help="file to write, instead of the terminal")
    place.add_argument("--sidecar", action="store_true", help="a file beside each image: photo.jpg -> photo.txt")
    place.add_argument("--metadata", action="store_true", help="into the metadata of JPEG, PNG, WebP and TIFF files")
    command.add_argument(
        "--alt-text",
        action="store_true",
        help="a sentence of at most --alt-length characters that does not begin with “a picture of”",
    )
    command.add_argument("--alt-length", type=int, default=125, metavar="N", help="(default: %(default)s)")
    command.add_argument(
        "--min-confidence",
        type=float,
        metavar="X",
        help="leave out captions of a lower confidence, and list them (0.65 for alt text beside or in images, else 0)",
    )
    command.add_argument(
        "--format",
        default="",
        choices=("text", "csv", "json", "jsonl", "txt", "xmp"),
        help="default: the ending of --output, txt for sidecars, text on the terminal",
    )
    command.add_argument(
        "--if-exists",
        default="skip",
        choices=("skip", "overwrite", "append", "prepend"),
        help="what happens to captions already there; append and prepend: in sidecars, metadata (default: %(default)s)",
    )
    command.add_argument(
        "--per-image",
        action="store_true",
        help="a caption of its own for every picture of a burst and every copy; else they share that of the first",
    )
    _add_text(command)
    _add_changes(command)
    command.add_argument(
        "--attention", action="store_true", help="json, jsonl: each word with its probability and attention too"
    )
    add_captioner(command)
    add_translator(command)
    add_encoder_weights(command)
    add_search(command)
    add_group(command, CaptionEngineOptions, "engine", "What computes captions.")


def _add_text(command: Parser) -> None:
    add = command.add_argument
    add("--begin", default="", metavar="TEXT", help="words that every caption begins with; the captioner goes on")
    add("--prefix", default="", metavar="TEXT", help="text before every caption, as it is")
    add("--suffix", default="", metavar="TEXT", help="text after every caption, as it is")


def _add_changes(command: Parser) -> None:
    add = command.add_argument
    add("--watch", action="store_true", help="caption new and changed pictures of folders until Ctrl-C")
    seconds = "with --watch: seconds between looks; a picture must stay the same as long (default: %(default)s)"
    add("--every", type=float, default=5.0, metavar="X", help=seconds)
    names = "name of XMP sidecars: photo.jpg.xmp or photo.xmp (default: %(default)s)"
    add("--xmp-name", default="full", choices=("full", "stem"), help=names)
    add("--keep-times", action="store_true", help="files whose metadata is written keep their times")
    add("--journal", type=Path, metavar="FILE", help="where undo finds it (default: captions-journal.jsonl)")


def _add_undo(command: Parser) -> None:
    command.add_argument("journal", type=Path, metavar="JOURNAL", help="the journal that caption named")


def _add_attention(command: Parser) -> None:
    command.add_argument("image", type=Path, metavar="IMAGE", help="an image")
    command.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="a .png with a panel for each word, or a .gif that walks through the words (default: IMAGE-attention.png)",
    )
    add_bundle(command)
    add_translator(command)
    add_encoder_weights(command)
    add_engine(command)
    add_search(command)


def _caption(flags: argparse.Namespace) -> int:
    from captioning.inference.folder import caption_folder, find_images_in, require_confidence
    from captioning.inference.left_out import LeftOut
    from captioning.inference.watch import FolderWatch
    from captioning.inference.writers import OutputOptions, open_writer

    engine = from_flags(flags, CaptionEngineOptions())
    given = {entry.name: getattr(flags, entry.name) for entry in fields(OutputOptions) if hasattr(flags, entry.name)}
    options = OutputOptions(**given | {"language": flags.language or ""})
    if flags.watch:
        if engine.engine == "ray":
            raise CaptioningError("--watch captions in this process; leave out --engine ray.")
        watch, images = FolderWatch(flags.paths, flags.every), []
    else:
        watch, images = None, find_images_in(flags.paths)
    if engine.engine == "ray":
        from captioning.extras import ray_engine

        if flags.captioner:
            raise CaptioningError("--engine ray captions with bundles alone; give --bundle instead of --captioner.")
        ray_engine.require_ray()
    captioner = load_speaking(flags)  # with Ray too: for its search, and to refuse a bundle workers could not load
    search = from_flags(flags, captioner.options)
    translator = getattr(captioner, "translators", {}).get(search.language)
    options = replace(options, translated=bool(translator))
    speaker = captioner.speaking(search.language) if hasattr(captioner, "speaking") else captioner
    require_confidence(speaker, search, options.threshold)
    caption = _captioning(flags, captioner, search, engine)
    with open_writer(options, several=search.num_captions > 1) as writer:
        left_out = LeftOut(options, writer)
        if watch:
            summary = _watch(flags, watch, caption, writer, left_out)
        else:
            summary = caption_folder(caption, images, writer, left_out)
    if options.place or watch or len(images) > 1 or summary.problems or summary.left_out:
        tell(summary.text(options.place, options.left_out))
    tell_cascade(captioner)
    if translator and summary.written:
        tell(f"translated from English by {translator.name}.")
    if summary.written and options.journal_path:
        tell(f"{PROGRAM} undo {options.journal_path} takes this back.")
    return 1 if summary.problems else 0


def _captioning(flags: argparse.Namespace, captioner: Any, search: DecodeOptions, engine: CaptionEngineOptions) -> Any:
    """The function that captions a list of images in batches."""
    if engine.engine == "ray":
        from captioning.extras import ray_engine

        load_one = functools.partial(captioning.load, *bundles_of(flags), encoder_weights=flags.encoder_weights)
        translator = getattr(captioner, "translators", {}).get(search.language)
        own = captioner.own_options(search) if translator else search
        run = functools.partial(
            ray_engine.caption_images, load_one, search=own, workers=engine.workers, begin=flags.begin
        )
        return (lambda images: translator.batches(run(images))) if translator else run
    from captioning.inference.folder import caption_images
    from captioning.inference.sharing import SharedCaptions

    shared = None if flags.per_image or flags.attention else SharedCaptions()
    return functools.partial(caption_images, captioner, search=search, begin=flags.begin, shared=shared)


def _watch(flags: argparse.Namespace, watch: Any, caption: Any, writer: Any, left_out: Any) -> Any:
    """Captions what arrives until it is stopped, and says so."""
    from captioning.inference.watch import Watcher

    tell(f"watching {', '.join(map(str, flags.paths))}; Ctrl-C ends it.")
    report = functools.partial(_report, place=left_out.place, listed=left_out.path)
    watcher = Watcher(caption, writer, left_out, report, changes_pictures=flags.metadata)
    return watcher.run(watch, flags.every, tell)


def _report(summary: Any, place: str, listed: Path | None) -> None:
    tell(f"{datetime.datetime.now():%H:%M:%S}: {summary.text(place, listed)}")


def _undo(flags: argparse.Namespace) -> int:
    from captioning.inference.metadata.changes import undo

    undone, earlier = undo(flags.journal)
    tell(undone.text(earlier))
    return 1 if undone.problems else 0


def _attention(flags: argparse.Namespace) -> int:
    from captioning.data.images import read_image
    from captioning.inference.protocol import shows_attention
    from captioning.inference.records import mark
    from captioning.plots import attention
    from captioning.runtime.files import atomic_write

    output = flags.output or Path(f"{flags.image.stem}-attention.png")
    kind = output.suffix.lower()
    if kind not in (".png", ".gif"):
        raise CaptioningError(f"{output} cannot be drawn: a name that ends in .png or .gif was expected.")
    image = read_image(flags.image)
    captioner = load_speaking(flags)
    caption = captioner.caption(image, from_flags(flags, captioner.options))
    if not shows_attention(caption):
        name = captioner.describe().name
        raise CaptioningError(f"{name} gives no attention over the picture; choose another captioner to see one.")
    if kind == ".gif":
        data = attention.walk_gif(image, caption.words)
    else:
        data = attention.strip_png(image, caption.words, str(caption))
    atomic_write(output, data)
    print(f"{caption}{mark(caption.verdict)}")
    if attention.is_attention_static(caption.words):
        tell(f"{attention.STILL}; see {PROGRAM} doctor {(flags.bundle or [IN_THE_BOX])[0]}.")
    return 0


CAPTION = Command(
    "caption PATH [PATH ...]",
    "caption images, or folders of them",
    (
        "photo.jpg holiday/",
        "photo.jpg --num-beams 5 --forbid man woman",
        "photo.jpg --captioner blip                     # a large published model, see docs/large-models.md",
        "photo.jpg --language vi                        # translated, see docs/translation.md",
        "holiday/ --captioner flickr8k,blip             # blip captions what flickr8k is not sure of",
        "holiday/ --output captions.csv                 # the same again after a stop: it resumes",
        "holiday/ --sidecar --alt-text                  # photo.jpg -> photo.txt beside it, where the caption is sure",
        "holiday/ --metadata --suffix ' (machine-written)'      # into the pictures' own metadata",
        "holiday/ --sidecar --format xmp --if-exists append     # photo.jpg.xmp, for Lightroom or digiKam",
        "holiday/ --output captions.csv --min-confidence 0.7   # less sure ones go to captions-left-out.csv",
        "holiday/ --metadata --watch                    # and what arrives there from now on, until Ctrl-C",
        "/shared/photos --output captions.jsonl --engine ray   # by the workers of a Ray cluster",
    ),
    add=_add_caption,
    run=_caption,
)

UNDO = Command(
    "undo JOURNAL",
    "take back what caption wrote into pictures and files beside them",
    (
        "captions-journal.jsonl                # the last run's changes",
        "captions-journal.jsonl                # the same again: those of the run before",
    ),
    add=_add_undo,
    run=_undo,
)

ATTENTION = Command(
    "attention IMAGE",
    "draw the attention map of every word",
    ("photo.jpg", "photo.jpg --output walk.gif --strategy greedy"),
    add=_add_attention,
    run=_attention,
)
