"""How a caption is worded where it is written: as alternative text or as it is, with a text before and after it."""

from dataclasses import dataclass

from captioning.errors import CaptioningError
from captioning.inference.records import ALT_LENGTH, alt_text

SHORTEST = 20  # characters that are left for a caption
LONGEST = 2000  # characters of a text before or after it


@dataclass(frozen=True)
class Wording:
    """`prefix` and `suffix` are written as they are; alternative text has at most `alt_length` characters with them."""

    alt_text: bool = False
    alt_length: int = ALT_LENGTH
    prefix: str = ""
    suffix: str = ""

    def __post_init__(self) -> None:
        for flag, text in (("--prefix", self.prefix), ("--suffix", self.suffix)):
            if not text.isprintable() or len(text) > LONGEST:
                raise CaptioningError(
                    f"{flag} {text} cannot be used: one line of at most {LONGEST:,} printable characters was expected."
                )
        if self.room < SHORTEST:
            least = SHORTEST + len(self.prefix) + len(self.suffix)
            raise CaptioningError(
                f"--alt-length {self.alt_length} cannot be used: {least} or more was expected, "
                f"{SHORTEST} of them for the caption and the others for --prefix and --suffix."
            )

    @property
    def room(self) -> int:
        """Characters of alternative text between prefix and suffix."""
        return self.alt_length - len(self.prefix) - len(self.suffix)

    def __call__(self, caption: str) -> str:
        """The text that is written of a caption."""
        return self.alternative(caption) if self.alt_text else f"{self.prefix}{caption}{self.suffix}"

    def alternative(self, caption: str) -> str:
        """The same as alternative text."""
        return f"{self.prefix}{alt_text(caption, self.room)}{self.suffix}"
