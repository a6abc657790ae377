"""The command that lists every captioner that can be named."""

import argparse

from captioning.commands.arguments import Command
from captioning.commands.loading import tell
from captioning.runtime.flags import Parser


def _add_captioners(command: Parser) -> None:
    command.add_argument(
        "--download", default="", metavar="NAME", help="download this published model now; its size is shown first"
    )


def _captioners(flags: argparse.Namespace) -> int:
    from captioning.extras import captioners

    if flags.download:
        return _download(flags.download)
    print(captioners.table(captioners.list_captioners()))
    return 0


def _download(name: str) -> int:
    from captioning.extras.hf_hub import folder_of
    from captioning.extras.published import PUBLISHED
    from captioning.extras.questions import PUBLISHED_ANSWERERS
    from captioning.extras.segmentation import PUBLISHED_SEGMENTERS
    from captioning.extras.zero_shot import PUBLISHED_LABELLERS

    def told(sentence: str) -> bool:  # whoever gives --download consents
        tell(sentence)
        return True

    known = PUBLISHED | PUBLISHED_ANSWERERS | PUBLISHED_LABELLERS | PUBLISHED_SEGMENTERS
    address = known[name].address if name in known else name
    print(folder_of(address, offline=False, consent=told))
    return 0


CAPTIONERS = Command(
    "captioners",
    "list the captioners that can be named: bundles and large published models",
    ("", "--download blip                       # about 2 GB; afterwards it works offline"),
    add=_add_captioners,
    run=_captioners,
)
