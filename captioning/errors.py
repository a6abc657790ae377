"""The errors that are shown to people. Each message names what happened, what was expected and how to fix it.

CaptioningError            exit status 2
├── DataError              captions or images that cannot be used
│   └── ImageError         one image that cannot be read; carries a short reason code
├── DownloadError          a file that could not be fetched whole
├── BundleError            a bundle that does not fit together
├── MissingExtra           an optional library that is not installed
├── TrainingError          exit status 3: the training itself went wrong (NaN)
├── StorageError           exit status 4: the disk is full, read-only, or held by another training
└── Stopped                exit status 130: a person stopped it, and everything is saved
"""

LONGEST = 2000  # characters of a message; more is left out of its middle


class CaptioningError(Exception):
    """A mistake that is shown to a person in one sentence. Only the command line, the app and servers catch it.

    A message is one line of printable characters, whatever names and values from files it quotes.
    """

    exit_status = 2

    def __init__(self, message: str) -> None:
        if not message.isprintable():
            message = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in message)
        if len(message) > LONGEST:
            message = f"{message[: LONGEST // 2]} ... {message[-LONGEST // 2 :]}"
        super().__init__(message)


class DataError(CaptioningError):
    """Captions or images that cannot be used."""


class ImageError(DataError):
    """One image that cannot be read; `reason` is a short code such as "truncated"."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        return ImageError, (self.reason, str(self))  # so that a worker process can return it


class DownloadError(CaptioningError):
    """A file that could not be fetched whole."""


class BundleError(CaptioningError):
    """A bundle whose parts are missing, altered, or do not belong together."""


class MissingExtra(CaptioningError):  # noqa: N818
    """An optional library that is not installed; the message names its pip install."""


class TrainingError(CaptioningError):
    """The training itself went wrong; the last good checkpoint is kept."""

    exit_status = 3


class StorageError(CaptioningError):
    """The disk is full or read-only, or another training holds the folder."""

    exit_status = 4


class Stopped(CaptioningError):  # noqa: N818
    """A person stopped the training; everything needed to go on is saved."""

    exit_status = 130
