"""Scores that need the objects of drawn scenes: right object and colour named, attention inside the object's box."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from captioning.data.scenes.dataset import SceneObject, read_objects
from captioning.data.scenes.staging import COLOURS
from captioning.data.scenes.stories import KINDS, PEOPLE

if TYPE_CHECKING:
    from captioning.inference.captioner import Caption

PERSON_WORDS = {word for kind in KINDS.values() if kind.garment for word in (kind.general, kind.plural)} | set(PEOPLE)
THING_WORDS = {
    word for noun, kind in KINDS.items() for word in (noun, kind.general, kind.plural) if word
} - PERSON_WORDS
GARMENTS = {"shirt", "shirts", "dress", "dresses"}
SIZE_WORDS = {"small", "big"}


def names_right_object(caption: str, objects: Iterable[SceneObject]) -> bool:
    """Whether the caption names an object of the scene with its colour.

    Two forms count: "<colour> [size] <noun>" and "<person> in|wearing [a|an] <colour> [shirt|dress]". A garment belongs
    to the last person named before it.
    """
    pairs = coloured_names(caption)
    return any(colour == thing.colour and names <= set(thing.names) for thing in objects for names, colour in pairs)


def coloured_names(caption: str) -> list[tuple[set[str], str]]:
    """Each colour of a caption with the words it describes: {"car"}, or {"boy", "shirt"}, or {"boy"}."""
    words = [word.strip(".,!?\"'").lower() for word in caption.split()]
    pairs, wearer = [], ""
    for position, word in enumerate(words):
        if word in PERSON_WORDS:
            wearer = word
        if word not in COLOURS:
            continue
        after = [later for later in words[position + 1 :] if later not in SIZE_WORDS][:1]
        worn = [earlier for earlier in words[:position] if earlier not in ("a", "an", *SIZE_WORDS)][-2:]
        dressed = len(worn) == 2 and worn[0] in PERSON_WORDS and worn[1] in ("in", "wearing")
        if after and after[0] in GARMENTS:
            pairs.append(({wearer, after[0]}, word))
        elif after and after[0] in THING_WORDS:
            pairs.append(({after[0]}, word))
        elif dressed:
            pairs.append(({wearer}, word))
    return pairs


def pointing_hits(words: Sequence[str], attention: np.ndarray, objects: Iterable[SceneObject]) -> tuple[int, int]:
    """Count the words that name an object of the scene, and those whose attention peaks inside its box: hits, total.

    words: T; attention: (T, rows, columns).
    """
    objects = tuple(objects)
    assert len(words) == len(attention), "one map for each word"
    hits = total = 0
    for word, weights in zip(words, attention, strict=True):
        boxes = [thing.box for thing in objects if word in (thing.noun, KINDS[thing.noun].plural)]
        if not boxes:
            continue
        total += 1
        row, column = np.unravel_index(np.argmax(weights), weights.shape)
        x, y = (column + 0.5) / weights.shape[1], (row + 0.5) / weights.shape[0]
        hits += any(left <= x <= right and top <= y <= bottom for left, top, right, bottom in boxes)
    return hits, total


def score_scenes(captions: Sequence["Caption"], images: Collection[Path], folder: Path) -> dict[str, float]:
    """Return the share of captions that name an object with its colour, and the share of attention peaks in its box.

    Empty if the folder has no objects for these images.
    """
    objects = read_objects(folder) if (folder / "scenes.json").exists() else {}
    if not objects.keys() >= set(images):
        return {}
    pairs = [(caption, objects[image]) for caption, image in zip(captions, images, strict=True)]
    right = [names_right_object(caption.text, things) for caption, things in pairs]
    named = {"names_right_object": sum(right) / len(right)}
    if any(word.attention is None for caption, _ in pairs for word in caption.words):
        return named
    hits = [_pointing(caption, things) for caption, things in pairs]
    pointed, total = (sum(counts) for counts in zip(*hits, strict=True))
    return named | {"attention_in_box": pointed / max(total, 1)}


def _pointing(caption: "Caption", things: Iterable[SceneObject]) -> tuple[int, int]:
    if not caption.words:
        return 0, 0
    return pointing_hits(
        [word.text for word in caption.words], np.stack([np.asarray(word.attention) for word in caption.words]), things
    )
