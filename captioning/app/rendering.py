"""What is shown of a described picture, as HTML: its words to press, the heat over it, the other captions.

Whatever comes from a bundle, a person or a file is escaped here. Buttons carry `data-event` and `data-value`, which
widgets.py turns into events.
"""

from collections.abc import Sequence
from html import escape

from captioning.inference.captioner import ENDING
from captioning.inference.confidence import SURE
from captioning.plots import attention
from captioning.serving.adjustments import data_uri, enlarged, examples
from captioning.serving.regions import BRUSH, WHOLE, Point, Strokes, sides
from captioning.serving.session import CaptionSession, sureness

TALLEST = 430  # pixels of the picture on the page
SHADE, DARKEST = "168 85 247", 0.45  # red, green, blue behind a word; how much of it behind one that is certain
HEADER = """<header class="head"><h1>Captioning</h1>
<p>Give it a picture: it says what it sees, and shows where it looked for every word.</p></header>"""
WELCOME = """<div class="welcome"><p><b>No picture yet.</b></p>
<p>Drop or paste one, take one with the camera, or press an example.</p></div>"""


def button(event: str, value: object, label: str, *, kind: str, told: str = "", more: str = "") -> str:
    """A button that sends a value with an event; `label` and `more` are HTML, `told` is what a screen reader says."""
    name = f' aria-label="{escape(told)}"' if told else ""
    sent = f'data-event="{event}" data-value="{escape(str(value))}"'
    return f'<button type="button" class="{kind}" {sent}{name}{more}>{label}</button>'


def _pressed(is_pressed: bool) -> str:
    return f' aria-pressed="{str(is_pressed).lower()}"'


def notice(sentence: str) -> str:
    """A sentence that stands where the caption would."""
    return f'<div class="welcome trouble"><p>{escape(sentence)}</p></div>'


def spoken(sentence: str) -> str:
    """A sentence for a screen reader alone, said when it changes."""
    return f'<p role="status">{escape(sentence)}</p>'


def reader(described: CaptionSession, place: int) -> str:
    """The caption, word by word, shaded by probability, and what could stand in the place of one of its words."""
    caption, place = described.caption, within(described, place)
    words = [
        button(
            "select",
            number,
            escape(word.text),
            kind="word",
            told=f"{word.text}, {word.probability:.0%}",
            more=f'{_pressed(number == place)} style="background:rgb({SHADE} / {word.probability * DARKEST:.0%})"',
        )
        for number, word in enumerate(caption.words)
    ]
    last = len(words)
    pressed = f'{_pressed(place == last)} title="the end of the caption"'
    words.append(button("select", last, ".", kind="word end", told="end of the caption", more=pressed))
    line = (
        f'<p class="caption" role="group" aria-label="Caption, word by word" dir="auto" data-row>{" ".join(words)}</p>'
    )
    return f'{line}<p class="sureness">{_confidence(described)}</p>{_choices(described, place)}'


def _confidence(described: CaptionSession) -> str:
    confidence, hint = described.caption.confidence, "Pale words are less likely. Press a word to see where it looked."
    if confidence is None:
        return f'<span class="faint">{hint}</span>'
    kind = "sure" if confidence >= SURE else "unsure"
    own = "of its own kind" + (f" ({escape(described.data)})" if described.data else "")
    meaning = f"Of captions like this, about {100 * confidence:.0f} in 100 were good on validation pictures {own}."
    sign = f'<span class="sign {kind}" title="{meaning}">{sureness(confidence)}</span>'
    return f'{sign} <span class="faint">counted only on pictures {own}. {hint}</span>'


def _choices(described: CaptionSession, place: int) -> str:
    words = described.caption.words
    if place < len(words):
        word = words[place]
        says = f"<b>{escape(word.text)}</b> {word.probability:.0%}, or else"
    else:
        says = "Instead of ending here"
    chips = [
        button(
            "submit",
            f"{place} {word}",
            f"{escape(word)} <small>{escape(_percent(share))}</small>",
            kind="chip",
            told=f"{'end the caption here' if word == ENDING else word}, {_percent(share)}",
        )
        for word, share in described.choices[place]
    ]
    return (
        f'<div class="choices" role="group" aria-label="Other words for this place" data-row>'
        f"<span>{says}</span> {' '.join(chips)}</div>"
    )


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "<1%"


def within(described: CaptionSession, place: int) -> int:
    """The place, or the nearest one that the caption has; the one after the last word is its end."""
    return max(0, min(place, len(described.caption.words)))


def stage(described: CaptionSession, place: int) -> str:
    """The picture under the heat of a word, and the part of it that alone is looked at."""
    words, place = described.caption.words, within(described, place)
    if place < len(words):
        image = attention.painted(enlarged(described.view, TALLEST), words[place].attention)
        says = f"Where it looked for {words[place].text}"
    else:
        image, says = described.view, "The picture"
    note = f" ({attention.STILL})" if place < len(words) and attention.collapsed(words) else ""
    height, width = described.view.shape[:2]
    size = f"width:min(100%,{TALLEST * width / height:.0f}px);aspect-ratio:{width}/{height}"
    picture = f'<img src="{data_uri(image)}" alt="{escape(says)}" draggable="false">'
    return (
        f'<figure class="stage"><div class="ground" style="{size}">{picture}'
        f'{_mark(described)}</div><figcaption><span>{escape(says + note)}</span><span class="marks">{_whole(described)}'
        '<button type="button" class="quiet" data-mode="box">Mark a part</button>'
        '<button type="button" class="quiet" data-mode="brush">Paint a part</button></span></figcaption></figure>'
    )


def _whole(described: CaptionSession) -> str:
    is_whole = described.region is None and described.adjustments.crop == WHOLE
    return "" if is_whole else button("submit", "whole", "Whole picture", kind="quiet")


def _mark(described: CaptionSession) -> str:
    """All but the region in the shade; in it widgets.py draws what is being marked, by the same path."""
    region, (across, down) = described.region, sides(described.view)

    def along(points: Sequence[Point], end: str) -> str:
        return "M" + "L".join(f"{x * across:.1f} {y * down:.1f}" for x, y in points) + end

    kind, path = "", ""
    if isinstance(region, Strokes):
        kind, path = "brush", "".join(along(line, "h0") for line in region.lines)
    elif region:
        left, top, right, bottom = region
        kind, path = "box", along([(left, top), (right, top), (right, bottom), (left, bottom)], "Z")
    shade, part = '<rect width="100%" height="100%"/>', '<use href="#part" stroke-width='
    return (
        f'<svg class="mark" data-kind="{kind}" viewBox="0 0 {across:.1f} {down:.1f}" aria-hidden="true">'
        f'<defs><path id="part" d="{path}"/></defs><mask id="around">{shade}{part}"{BRUSH}"/></mask>'
        f'<g mask="url(#around)">{shade}{part}"{BRUSH + 2}"/></g></svg>'
    )


def others(described: CaptionSession) -> str:
    """The captions found, best first, to press."""
    items = [
        button(
            "select",
            rank,
            f"<span>{escape(caption.text) or '(nothing)'}</span><small>{caption.score:.2f}</small>",
            kind="line",
            more=_pressed(rank == described.rank),
        )
        for rank, caption in enumerate(described.captions)
    ]
    return (
        '<p class="faint">Scores are mean log-probabilities: nearer to zero is likelier.</p><ol class="lines" data-row>'
        + "".join(f"<li>{item}</li>" for item in items)
        + "</ol>"
    )


def example_strip(*, drawn: bool) -> str:
    """The example pictures, to press; `drawn`: the captioner knows drawn pictures."""
    items = [
        button(
            "select",
            number,
            f'<img alt="" src="{data_uri(image, longest=160)}">',
            kind="example",
            told=f"Example {number + 1}: {text}",
        )
        for number, (image, text) in enumerate(examples())
    ]
    known, other = ("drawn pictures like these", "photographs") if drawn else ("photographs", "these drawn ones")
    says = f"Examples. This captioner knows {known}: expect odd captions of {other}."
    group = 'class="examples" role="group" aria-label="Example pictures" data-row'
    return f'<p class="faint">{says}</p><div {group}>{"".join(items)}</div>'
