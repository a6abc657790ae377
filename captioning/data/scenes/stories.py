"""Generates the story of a drawn scene and five captions of it."""

from dataclasses import dataclass, replace
from random import Random

from captioning.data.scenes.backdrops import PLACES

BRIGHT = ("red", "blue", "green", "yellow", "orange", "purple", "black", "white")
FUR = ("brown", "black", "white")
DRY = ("grass", "beach", "snow", "street")
FIELDS = ("grass", "beach", "snow")


@dataclass(frozen=True)
class Kind:
    """A noun: its places, its colours, its actions, and the other words for it."""

    places: tuple[str, ...]
    colours: tuple[str, ...] = BRIGHT
    actions: tuple[str, ...] = ("standing",)
    general: str = ""
    plural: str = ""
    garment: str = ""


MOVES = ("standing", "running", "jumping", "sitting", "waving")
PLAY = ("standing", "running", "jumping", "sitting")
GAITS = ("standing", "running")
KINDS = {
    "man": Kind(PLACES, BRIGHT, MOVES, "person", "men", "shirt"),
    "woman": Kind(PLACES, BRIGHT, MOVES, "person", "women", "dress"),
    "boy": Kind(PLACES, BRIGHT, MOVES, "child", "boys", "shirt"),
    "girl": Kind(PLACES, BRIGHT, MOVES, "child", "girls", "dress"),
    "dog": Kind(PLACES, (*FUR, "yellow"), PLAY, "animal", "dogs"),
    "horse": Kind(FIELDS, FUR, GAITS, "animal", "horses"),
    "bird": Kind((*DRY, "water"), BRIGHT, ("standing", "flying"), plural="birds"),
    "ball": Kind(PLACES, actions=("lying",), plural="balls"),
    "balloon": Kind(PLACES, actions=("flying",), plural="balloons"),
    "kite": Kind((*DRY, "water"), actions=("flying",), plural="kites"),
    "umbrella": Kind(DRY),
    "car": Kind(DRY, actions=("parked",)),
    "boat": Kind(("beach", "water"), actions=("lying",)),
    "bicycle": Kind((*DRY, "room"), actions=("parked",)),
    "house": Kind(FIELDS),
    "tree": Kind(DRY, ("green", "yellow", "orange", "red", "white", "purple")),
    "flower": Kind(
        ("grass", "street", "room"), ("red", "blue", "yellow", "orange", "purple", "white"), plural="flowers"
    ),
}
PEOPLE = tuple(noun for noun, kind in KINDS.items() if kind.garment)
ANIMALS = ("dog", "horse", "bird")
THINGS = tuple(noun for noun in KINDS if noun not in PEOPLE + ANIMALS)
FLOATING = {"boat": "floating", "ball": "floating", "dog": "swimming", "bird": "flying"}
AIRBORNE = ("balloon", "kite")
HELD = ("balloon", "kite", "umbrella")
SHELTERS = ("tree", "umbrella")
NARROW = (*PEOPLE, "ball", "flower")
PLACE_WEIGHTS = {
    "grass": 2,
    "beach": 2,
    "snow": 2,
    "street": 3,
    "water": 4,
    "room": 4,
}  # the last ones have fewer kinds
LANDMARKS = ("house", "tree", "car", "boat")


@dataclass(frozen=True)
class Actor:
    """A person, animal or thing, or `count` identical ones."""

    noun: str
    colour: str
    action: str
    count: int = 1
    size: str = ""


@dataclass(frozen=True)
class Story:
    """The place, the main actor and, if `relation` is not empty, another actor in this relation."""

    place: str
    main: Actor
    relation: str = ""
    other: Actor | None = None


def invent_story(random: Random) -> Story:
    """A random story. Kinds, colours, actions, places and relations are as independent as they can be."""
    group, counts = random.choices(
        ((PEOPLE, (75, 25, 0)), (ANIMALS, (75, 17, 8)), (THINGS, (55, 30, 15))), (42, 33, 25)
    )[0]
    noun = random.choice(group)
    place = random.choices(KINDS[noun].places, [PLACE_WEIGHTS[place] for place in KINDS[noun].places])[0]
    most = (2 if place == "water" else 3) if KINDS[noun].plural else 1
    main = invent_actor(noun, place, random, count=min(most, random.choices((1, 2, 3), counts)[0]))
    relation = random.choice(relations_of(main, place))
    others = partners(main, relation, place)
    if not relation or not others:
        return Story(place, main)
    other = invent_actor(random.choice(others), place, random, flying=relation == "under")
    if relation in ("holding", "in front of") or other.noun in SHELTERS:
        main, other = replace(main, size=""), replace(other, size="")
    elif main.size:
        other = replace(other, size="")
    return Story(place, main, relation, other)


def invent_actor(noun: str, place: str, random: Random, *, count: int = 1, flying: bool | None = None) -> Actor:
    kind = KINDS[noun]
    actions = kind.actions
    if place == "water":
        actions = ("swimming", "standing", "waving") if kind.garment else (FLOATING.get(noun, actions[0]),)
    if noun == "bird" and flying is not None:
        actions = ("flying",) if flying or place == "water" else ("standing",)
    size = "" if kind.garment or count > 1 else random.choices(("", "small", "big"), (50, 25, 25))[0]
    return Actor(noun, random.choice(kind.colours), random.choice(actions), count, size)


def relations_of(main: Actor, place: str) -> tuple[str, ...]:
    if main.action == "flying":
        return ("",) if main.count > 1 else ("", "above", "above")
    if main.count > 1:
        return ("", "beside") if main.count == 2 and main.noun in NARROW else ("",)
    choices: tuple[str, ...] = ("", "", "beside", "beside", "beside")
    if main.noun not in LANDMARKS + SHELTERS:
        choices += ("under", "under", "in front of") if place != "room" else ("under",)
    if main.noun in PEOPLE and main.action in ("standing", "running") and place != "water":
        choices += ("holding",) * 4
    return choices


def partners(main: Actor, relation: str, place: str) -> list[str]:
    """The nouns that can be in this relation to the main actor."""
    grounded = tuple(noun for noun in KINDS if noun not in AIRBORNE and not (noun == "bird" and place == "water"))
    choices = {
        "": (),
        "beside": tuple(noun for noun in grounded if noun not in PEOPLE or main.noun in ANIMALS),
        "in front of": LANDMARKS,
        "under": (*SHELTERS, *AIRBORNE, "bird"),
        "above": tuple(noun for noun in grounded if noun not in ("house", "tree", "umbrella")),
        "holding": HELD,
    }[relation]
    anywhere = ("umbrella",) if relation == "holding" else ()
    return [noun for noun in choices if noun in anywhere or (noun != main.noun and place in KINDS[noun].places)]


FINITE = {
    "standing": "stands",
    "running": "runs",
    "jumping": "jumps",
    "sitting": "sits",
    "waving": "waves",
    "swimming": "swims",
    "flying": "flies",
}
WHERE = {
    "grass": ("on the grass", "on the grass", "on green grass", "in a field"),
    "beach": ("on the beach", "on the beach", "on the sand"),
    "snow": ("in the snow", "in the snow", "on the snow"),
    "street": ("on the street", "on the street", "on the road"),
    "water": ("in the water", "in the water", "in the lake"),
    "room": ("in a room", "in a room", "inside"),
}
OVER = {
    "grass": "over the grass",
    "beach": "over the beach",
    "snow": "over the snow",
    "street": "over the street",
    "water": "over the water",
}
BETWEEN = {
    "beside": ("beside", "beside", "next to", "near"),
    "in front of": ("in front of",),
    "behind": ("behind",),
    "under": ("under", "under", "below"),
    "above": ("above", "above", "over"),
    "holding": ("with",),
}
INVERSE = {"beside": "beside", "in front of": "behind", "under": "above", "above": "under"}
ALONE = (
    "{main} {is_are} {doing} {place}",
    "{main} {does} {place}",
    "{main} {doing} {place}",
    "there {is_are} {main} {place}",
    "{place} {main} {is_are} {doing}",
    "there {is_are} {main} {doing} {place}",
    "{main} {place}",
)
TOGETHER = (
    "{main} {is_are} {doing} {relation} {other} {place}",
    "{main} {is_are} {doing} {relation} {other}",
    "{main} {does} {relation} {other} {place}",
    "{main} {does} {relation} {other}",
    "{main} {doing} {relation} {other} {place}",
    "{main} {is_are} {relation} {other}",
    "{main} {is_are} {doing} {place}",
    "there {is_are} {main} {relation} {other}",
    "{other} {is_other} {inverse} {main} {place}",
    "{main} and {other} {place}",
)
HOLDING = (
    "{main} is holding {other} {place}",
    "{main} is holding {other}",
    "{main} holds {other} {place}",
    "{main} holds {other}",
    "{main} holding {other} {place}",
    "{main} is {doing} with {other}",
    "{main} {does} {place} with {other}",
    "{main} with {other} {place}",
    "{main} is {doing} {place}",
    "there is {main} with {other}",
)


def write_captions(story: Story, random: Random) -> tuple[str, ...]:
    """Five captions with different wording. All of them name the main actor's colour."""
    templates: tuple[str, ...] = TOGETHER if story.other else ALONE
    if story.relation == "holding":
        templates = HOLDING
    if story.main.count > 1 or story.main.action not in FINITE:
        templates = tuple(template for template in templates if "{does}" not in template)
    if story.other and story.other.noun in SHELTERS:
        templates = tuple(template for template in templates if "{inverse}" not in template)
    return tuple(fill_template(story, template, random) for template in random.sample(templates, 5))


def fill_template(story: Story, template: str, random: Random) -> str:
    main, other = story.main, story.other
    soaring = main.action == "flying" and "{other}" not in template and story.place in OVER
    words = {
        "main": name(main, random, coloured=True),
        "is_are": "is" if main.count == 1 else "are",
        "doing": main.action,
        "does": FINITE.get(main.action, ""),
        "place": OVER[story.place] if soaring else random.choice(WHERE[story.place]),
    }
    if other:
        words |= {
            "other": name(other, random, coloured=random.random() < 0.85),
            "is_other": "is" if other.count == 1 else "are",
            "relation": random.choice(BETWEEN[story.relation]),
            "inverse": random.choice(BETWEEN[INVERSE.get(story.relation, "beside")]),
        }
    return template.format(**words)


def name(actor: Actor, random: Random, *, coloured: bool) -> str:
    kind = KINDS[actor.noun]
    noun = kind.plural if actor.count > 1 else actor.noun
    if actor.count == 1 and kind.general and random.random() < 0.12:
        noun = kind.general
    if kind.garment:
        age = random.choice(("young", "little")) if actor.noun in ("boy", "girl") and random.random() < 0.15 else ""
        return counted(actor.count, age, noun) + (clothed(actor, kind.garment, random) if coloured else "")
    size = actor.size if random.random() < 0.6 else ""
    return counted(actor.count, size, actor.colour if coloured else "", noun)


def clothed(actor: Actor, garment: str, random: Random) -> str:
    verb = random.choice(("in", "in", "wearing"))
    if random.random() < 0.1:
        return f" {verb} {actor.colour}"
    if actor.count > 1:
        return f" {verb} {actor.colour} {plural_garment(garment)}"
    return f" {verb} {counted(1, actor.colour, garment)}"


def plural_garment(garment: str) -> str:
    return {"shirt": "shirts", "dress": "dresses"}.get(garment, "")


def counted(count: int, *words: str) -> str:
    phrase = " ".join(word for word in words if word)
    article = "an" if phrase[0] in "aeiou" else "a"
    return f"{('', article, 'two', 'three')[count]} {phrase}"
