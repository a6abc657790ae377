"""The command that says a caption aloud."""

import argparse
from pathlib import Path

from captioning.commands.arguments import (
    Command,
    add_bundle,
    add_encoder_weights,
    add_engine,
    add_search,
    add_translator,
)
from captioning.commands.loading import load_speaking, tell
from captioning.errors import CaptioningError
from captioning.runtime.flags import Parser, from_flags

ENGLISH = "en"  # the language of a captioner that states none


def _add_say(command: Parser) -> None:
    add = command.add_argument
    add("image", type=Path, metavar="IMAGE", help="an image")
    add("--output", type=Path, metavar="FILE", help="a .wav file, instead of the loudspeaker")
    add("--speed", type=int, default=160, metavar="N", help="words a minute, 80 to 450 (default: %(default)s)")
    add_bundle(command)
    add_translator(command)
    add_encoder_weights(command)
    add_engine(command)
    add_search(command)


def _say(flags: argparse.Namespace) -> int:
    from captioning.data.images import read_image
    from captioning.extras import speech
    from captioning.inference.records import mark
    from captioning.runtime.files import atomic_write

    if flags.output and flags.output.suffix.lower() != ".wav":
        raise CaptioningError(f"{flags.output} cannot be written: a name that ends in .wav was expected.")
    image = read_image(flags.image)
    speech.speaker(flags.language or ENGLISH, flags.speed)  # refused before a captioner is loaded
    captioner = load_speaking(flags)
    caption = captioner.caption(image, from_flags(flags, captioner.options))
    print(f"{caption}{mark(caption.verdict)}", flush=True)
    if caption.translation:
        tell(f"translated from English by {caption.translation.model}.")
    sound = speech.speak(str(caption), caption.written_language or ENGLISH, speed=flags.speed)
    if flags.output:
        atomic_write(flags.output, sound.wav())
        tell(f"{sound.seconds:.1f} seconds of speech in {flags.output}.")
    else:
        speech.play(sound)
    return 0


SAY = Command(
    "say IMAGE",
    "caption an image and say the caption aloud",
    (
        "photo.jpg                             # on the loudspeaker",
        "photo.jpg --output photo.wav --speed 140",
        "photo.jpg --language de --output photo.wav",
    ),
    add=_add_say,
    run=_say,
)
