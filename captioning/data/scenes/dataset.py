"""The built-in data set: drawn images, each with five captions and the boxes of its objects, generated from a seed."""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from types import MappingProxyType

from PIL import Image
from tqdm import tqdm

from captioning.data.scenes.backdrops import paint_backdrop
from captioning.data.scenes.staging import Box, Placed, arrange
from captioning.data.scenes.stories import KINDS, Actor, Story, invent_story, plural_garment, write_captions
from captioning.errors import DataError
from captioning.runtime.files import one_at_a_time

SIZES: Mapping[str, int] = MappingProxyType({"train": 2000, "dev": 200, "test": 200})
SIDE, SUPERSAMPLING = 192, 2


@dataclass(frozen=True)
class SceneObject:
    """A drawn object, all words for it in captions, and its box (left, top, right, bottom) as shares of the image."""

    noun: str
    colour: str
    names: tuple[str, ...]
    box: Box


@dataclass(frozen=True)
class Scene:
    """A 192 x 192 RGB image, five captions, one to three objects."""

    image: Image.Image
    captions: tuple[str, ...]
    objects: tuple[SceneObject, ...]


@dataclass(frozen=True)
class SceneSet:
    """A painted backdrop and the placed figures of a story, before they are painted."""

    rng: Random
    story: Story
    canvas: Image.Image
    placed: list[Placed]


def set_scene(seed: int, index: int) -> SceneSet:
    """What the scene with this index is drawn from."""
    random = Random(f"{seed}/{index}")
    story = invent_story(random)
    canvas = Image.new("RGB", (SIDE * SUPERSAMPLING, SIDE * SUPERSAMPLING))
    paint_backdrop(canvas, story.place, random)
    return SceneSet(random, story, canvas, arrange(story, random))


def draw_scene(seed: int, index: int) -> Scene:
    """The scene with this index in the data set of this seed."""
    scene = set_scene(seed, index)
    for figure in scene.placed:
        figure.paint(scene.canvas)
    objects = tuple(
        SceneObject(figure.actor.noun, figure.actor.colour, names_of(figure.actor), figure.box)
        for figure in scene.placed
    )
    return Scene(scene.canvas.reduce(SUPERSAMPLING), write_captions(scene.story, scene.rng), objects)


def names_of(actor: Actor) -> tuple[str, ...]:
    """All words that captions may use for an actor; plurals only if there are several."""
    kind = KINDS[actor.noun]
    names = [actor.noun, kind.general, kind.garment]
    if actor.count > 1:
        names += [kind.plural, plural_garment(kind.garment)]
    return tuple(dict.fromkeys(name for name in names if name))


def write_scenes(folder: Path, *, sizes: Mapping[str, int] | None = None, seed: int = 0) -> Path:
    """Draws the data set into the folder unless it is complete. Returns the folder.

    A folder drawn with other sizes, another seed or older code is replaced. A folder with other content is refused.
    """
    folder = Path(folder)
    recipe = {"seed": seed, "sizes": dict(SIZES if sizes is None else sizes), "code": code_hash()}
    if is_complete(folder, recipe):
        return folder
    refuse_foreign(folder)
    with one_at_a_time(folder.parent):
        if not is_complete(folder, recipe):  # another program may have drawn it meanwhile
            _replace(folder, recipe)
    return folder


def _replace(folder: Path, recipe: dict) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        drawn = Path(temporary) / "scenes"
        draw_all(drawn, recipe)
        if folder.exists():
            shutil.rmtree(folder)
        drawn.rename(folder)


def draw_all(folder: Path, recipe: dict) -> None:
    (folder / "Images").mkdir(parents=True)
    names = [(split, f"{split}_{number:05d}.jpg") for split, size in recipe["sizes"].items() for number in range(size)]
    lines = []
    for index, (split, name) in enumerate(tqdm(names, desc="Drawing scenes", unit="scene", leave=False, disable=None)):
        scene = draw_scene(recipe["seed"], index)
        scene.image.save(folder / "Images" / name, quality=90, subsampling=0)
        row = {"file_name": f"Images/{name}", "split": split, "captions": scene.captions}
        lines.append(json.dumps(row | {"objects": [asdict(thing) for thing in scene.objects]}))
    (folder / "scenes.json").write_text(as_text(recipe), encoding="utf-8")
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def code_hash() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def is_complete(folder: Path, recipe: dict) -> bool:
    marks = folder / "scenes.json", folder / "metadata.jsonl"
    if not all(mark.is_file() for mark in marks) or marks[0].read_text(encoding="utf-8") != as_text(recipe):
        return False
    return sum(1 for _ in (folder / "Images").glob("*.jpg")) == sum(recipe["sizes"].values())


def as_text(recipe: dict) -> str:
    return json.dumps(recipe, indent=2) + "\n"


def refuse_foreign(folder: Path) -> None:
    foreign = foreign_entry(folder)
    if foreign:
        raise DataError(
            f"{folder} holds {foreign}, which is not part of a drawn data set and would be deleted; "
            "give a new or an empty folder instead."
        )


def foreign_entry(folder: Path) -> str:
    """The first entry of the folder that `write_scenes` did not create, or ""."""
    if not folder.is_dir():
        return folder.name if folder.exists() else ""
    entries = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    if "scenes.json" in entries:
        made = re.compile(r"Images|instances\.json|metadata\.jsonl|scenes\.json|Images[/\\]\w+_\d{5,}\.jpg")
        entries = {entry for entry in entries if not made.fullmatch(entry)}
    return min(entries, default="")


def read_objects(folder: Path) -> dict[Path, tuple[SceneObject, ...]]:
    """The objects of every image in a folder created by `write_scenes`."""
    path = Path(folder) / "metadata.jsonl"
    if not path.is_file():
        raise DataError(f"{path} is missing, so {folder} is not a drawn data set; create it with write_scenes first.")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {Path(folder) / row["file_name"]: tuple(object_from(entry) for entry in row["objects"]) for row in rows}


def object_from(entry: dict) -> SceneObject:
    return SceneObject(entry["noun"], entry["colour"], tuple(entry["names"]), tuple(entry["box"]))
