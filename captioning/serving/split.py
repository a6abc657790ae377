"""An experiment between captioners: each caller is given one of them, always the same, in the shares asked for.

What people say is kept with the captioner that was given, so that evaluation/people.py can tell which one they prefer.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from captioning.errors import CaptioningError

EXPECTED = "give two or more captioners with their shares, as in --split flickr8k=80,other=20"
SPACE = 2**64  # of the numbers that callers are hashed to


@dataclass(frozen=True)
class Split:
    """The captioners of an experiment and their shares, which add up to 1."""

    names: tuple[str, ...]
    shares: tuple[float, ...]

    def person(self, caller: str, subject: str = "") -> str:
        """A short code for who is captioned for: the caller's key, and whom the caller says that it is for."""
        text = "\n".join((*sorted(self.names), caller, subject))
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]

    def captioner(self, person: str) -> str:
        """The captioner of a person. Where shares change, no more people change captioners than must."""
        place, border = int(person, 16) / SPACE, 0.0
        for name, share in zip(self.names, self.shares, strict=True):
            border += share
            if place < border:
                return name
        return self.names[-1]

    def note(self, person: str, captioner: str) -> dict[str, str]:
        """What is kept beside feedback; nothing where the caption is not of the captioner that the person was given."""
        return {"arm": captioner, "person": person} if captioner == self.captioner(person) else {}


def read_split(text: str, names: Sequence[str]) -> Split:
    """The split that a flag asks for; `names` are the captioners on offer."""
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = (piece.strip() for piece in part.partition("="))
        if name not in names:
            raise CaptioningError(f"--split names {name or 'nothing'}, which is not on offer: {', '.join(names)}.")
        if name in shares or not (share.isascii() and share.isdecimal() and 0 < int(share) <= 1_000_000):
            raise CaptioningError(f"--split {text} cannot be used at {part.strip()}; {EXPECTED}.")
        shares[name] = int(share)
    if len(shares) < 2:
        raise CaptioningError(f"--split {text} is no split; {EXPECTED}.")
    total = sum(shares.values())
    return Split(tuple(shares), tuple(share / total for share in shares.values()))
