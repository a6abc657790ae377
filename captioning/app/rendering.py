"""What is shown of a captioned picture, as HTML: its words to press, the attention over it, the other captions.

Whatever comes from a bundle, a person or a file is escaped here. Buttons with `data-event` send an event to the server.
Parts with `data-place` belong to one word; page.js shows those of the word that is selected.
"""

from collections.abc import Sequence
from html import escape

import numpy as np

from captioning.inference.caption import Translation, Word
from captioning.inference.captioner import ENDING
from captioning.inference.confidence import LEAST_EXAMPLES
from captioning.plots import attention
from captioning.serving.adjustments import data_uri, examples
from captioning.serving.regions import BRUSH, WHOLE, Point, Strokes, sides
from captioning.serving.session import CaptionSession, first_noun, sureness

TALLEST = 430  # pixels of the picture on the page
SHADE, DARKEST = "168 85 247", 0.45  # red, green, blue behind a word; how much of it behind one that is certain
HEAT = 160  # pixels of the longer side of a map of attention: it is smooth, and the page makes it larger
ENGLISH = "en"  # the language of a bundle that states none
WORD = 0.9  # seconds a word
KINDS = {  # the colour of a verdict, where it is not called like it
    "not sure": "unsure",
    "unfamiliar": "unsure",
    "not calibrated": "unknown",
}
HEADER = """<header class="head"><h1>Captioning</h1>
<p data-t="head">\
Choose a picture to get a caption. Press a word to see its attention: the parts of the picture that counted most.</p>
</header>"""
WELCOME = """<div class="welcome"><p><b data-t="welcome">No picture yet.</b></p>
<p data-t="welcome_how">Drop one, paste one, or take one with the camera.</p></div>"""
STATE = '<div class="welcome"><p role="status"></p></div>'  # page.js writes what is going on


def button(event: str, value: object, label: str, *, kind: str, told: str = "", more: str = "") -> str:
    """A button that sends a value with an event; `label` and `more` are HTML, `told` is its name for screen readers."""
    name = f' aria-label="{escape(told)}"' if told else ""
    sent = f'data-event="{event}" data-value="{escape(str(value))}"'
    return f'<button type="button" class="{kind}" {sent}{name}{more}>{label}</button>'


def _pressed(is_pressed: bool) -> str:
    return f' aria-pressed="{str(is_pressed).lower()}"'


def notice(sentence: str) -> str:
    """A sentence that stands where the caption would."""
    return f'<div class="welcome trouble"><p>{escape(sentence)}</p></div>'


def about(sentence: str) -> str:
    """What a captioner is good for, under its name."""
    return f'<p class="faint">{escape(sentence)}</p>'


def spoken(sentence: str) -> str:
    """A sentence for a screen reader alone, said when it changes."""
    return f'<p role="status">{escape(sentence)}</p>'


def reader(described: CaptionSession, place: int) -> str:
    """The caption, word by word, coloured by probability; buttons to copy it and to search again."""
    caption, place, last = described.caption, within(described, place), len(described.caption.words)
    words = [
        _word(
            number,
            escape(word.text),
            f"{word.text}, {word.probability:.0%}",
            f'{_pressed(number == place)} style="background:rgb({SHADE} / {word.probability * DARKEST:.0%})"',
        )
        for number, word in enumerate(caption.words)
    ]
    pressed = f'{_pressed(place == last)} title="the end of the caption"'
    words.append(_word(last, ".", "end of the caption", pressed, kind="word end"))
    copy = f'<button type="button" class="quiet" data-copy="{escape(str(caption))}" data-t="copy">Copy caption</button>'
    again = button("retry", "", "Caption again", kind="quiet", more=' data-t="again"')
    aloud = (
        f'<button type="button" class="quiet" data-speak="{escape(str(caption))}" '
        f'data-lang="{escape(caption.written_language or ENGLISH)}" data-t="aloud">Read aloud</button>'
    )
    language = f' lang="{escape(caption.language)}"' if caption.language else ""
    return (
        f"{_translation(caption.translation)}"
        f'<p class="caption" role="group" aria-label="Caption, word by word" dir="auto"{language} data-row'
        f' data-start="{first_noun(caption)}" data-last="{last}">{" ".join(words)}</p>'
        f'<p class="acts">{copy} {aloud} {again}</p>'
    )


def _translation(found: Translation | None) -> str:
    """A translation, and the model it is by, above the words that were translated."""
    if not found:
        return ""
    return (
        f'<p class="translation" dir="auto" lang="{escape(found.language)}">{escape(found.text) or "(nothing)"}</p>'
        f'<p class="faint"><span data-t="translated_by">Translated from English by</span> {escape(found.model)}</p>'
    )


def _word(place: int, label: str, told: str, more: str, *, kind: str = "word") -> str:
    return (
        f'<button type="button" class="{kind}" data-place="{place}" aria-label="{escape(told)}"{more}>{label}</button>'
    )


def detail(described: CaptionSession, place: int) -> str:
    """How sure the caption is, and for every place of it what could stand there."""
    place, places = within(described, place), range(len(described.choices))
    choices = [_choices(described, number, _hidden(number != place)) for number in places]
    return f'<p class="sureness">{_confidence(described)}</p>{"".join(choices)}'


def _hidden(is_hidden: bool) -> str:
    return " hidden" if is_hidden else ""


def _confidence(described: CaptionSession) -> str:
    confidence, verdict = described.caption.confidence, described.caption.verdict
    own = "of its own kind" + (f" ({escape(described.data)})" if described.data else "")
    if verdict == "unfamiliar":
        meaning = "It is less like the validation pictures than 99 in 100 of these are like the others."
        about = f"This picture is unlike those {own}, so what is said of it is a guess."
    elif verdict == "not calibrated":
        meaning = "The mean probability of the caption's words. How often such captions are good was not measured."
        about = "A published model says how likely its words are, which was not calibrated."
    elif confidence is None:
        meaning = f"Measured for beam search alone, and where a training had {LEAST_EXAMPLES} or more such pictures."
        about = f"Not measured on pictures {own}."
    else:
        meaning = f"Of captions like this, about {100 * confidence:.0f} in 100 were good on validation pictures {own}."
        about = f"Measured on pictures {own}."
    hint = "The stronger the colour of a word, the likelier it is."
    return f'{sign(confidence, verdict, meaning)} <span class="faint">{about} {hint}</span>'


def sign(confidence: float | None, verdict: str, meaning: str = "") -> str:
    """How sure a caption is, in green, in yellow, or in grey where it is unknown; `meaning` is HTML."""
    kind = KINDS.get(verdict, verdict)
    title = f' title="{meaning}"' if meaning else ""
    return f'<span class="sign {kind}"{title}>{sureness(confidence, verdict)}</span>'


def _choices(described: CaptionSession, place: int, hidden: str) -> str:
    words = described.caption.words
    if place < len(words):
        word = words[place]
        others = ", or else" if described.choices[place] else ""
        says = f"<b>{escape(word.text)}</b> {word.probability:.0%}{others}"
    else:
        says = "Instead of ending here" if described.choices[place] else "The caption ends here"
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
        f'<div class="choices" role="group" aria-label="Other words for this place" data-row data-place="{place}"'
        f"{hidden}><span>{says}</span> {' '.join(chips)}</div>"
    )


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "<1%"


def within(described: CaptionSession, place: int) -> int:
    """The place, or the nearest one that the caption has; the one after the last word is its end."""
    return max(0, min(place, len(described.caption.words)))


def stage(described: CaptionSession, place: int) -> str:
    """The picture under the attention of every word, one of which is shown, and the region that is marked."""
    words, place = described.caption.words, within(described, place)
    height, width = described.view.shape[:2]
    size = f"width:min(100%,{TALLEST * width / height:.0f}px);aspect-ratio:{width}/{height}"
    note = f" ({attention.STILL})" if attention.is_attention_static(words) else ""
    says = [_told_of(word, note) for word in words] + ["The picture"]
    captions = [
        f'<span data-place="{number}"{_hidden(number != place)}>{escape(each)}</span>'
        for number, each in enumerate(says)
    ]
    heats = [
        _heat(described, word.attention, number, _hidden(number != place))
        for number, word in enumerate(words)
        if word.attention is not None
    ]
    picture = f'<img src="{data_uri(described.view)}" alt="The picture that is captioned" draggable="false">'
    return (
        f'<figure class="stage"><div class="ground" style="{size}">{picture}{"".join(heats)}'
        f'{_mark(described)}</div><figcaption><span>{"".join(captions)}</span><span class="marks">{_whole(described)}'
        '<button type="button" class="quiet" data-mode="box">Mark a part</button>'
        '<button type="button" class="quiet" data-mode="brush">Paint a part</button></span></figcaption></figure>'
        f"{_regions(described)}"
    )


def _told_of(word: Word, note: str) -> str:
    """What stands below the picture while a word is selected."""
    if word.attention is None:
        return f"\u201c{word.text}\u201d: this captioner gives no attention"
    return f"Attention of \u201c{word.text}\u201d{note}"


def _heat(described: CaptionSession, weights: np.ndarray, place: int, hidden: str) -> str:
    height, width = described.view.shape[:2]
    scale = HEAT / max(height, width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    laid = data_uri(attention.overlay(weights, size))
    return f'<img class="heat" data-place="{place}" src="{laid}" alt="" draggable="false"{hidden}>'


def _regions(described: CaptionSession) -> str:
    maps = [word.attention for word in described.caption.words if word.attention is not None]
    if not maps:
        return ""
    rows, columns = maps[0].shape
    count = f"{rows * columns} regions ({rows} \u00d7 {columns})"
    return f'<p class="faint">The attention of a word is one weight for each of {count} of the picture.</p>'


def player(root: str, seconds: float, *, more: str) -> str:
    """A button that walks through the parts of `root`; `more` is HTML beside it."""
    timed = f'data-play="{root}" data-seconds="{seconds}"'
    play = f'<button type="button" class="quiet" {timed} data-t="play">Play</button>'
    return f'<div class="player">{play} {more}</div>'


def word_player() -> str:
    """The player of a caption's words, and a slider between the picture and the attention."""
    slider = '<input type="range" min="0" max="100" value="100" data-heat aria-label="From picture to attention">'
    return player("#right", WORD, more=f"<label><span>Picture</span>{slider}<span>Attention</span></label>")


def _whole(described: CaptionSession) -> str:
    is_whole = described.region is None and described.adjustments.crop == WHOLE
    return "" if is_whole else button("submit", "whole", "Whole picture", kind="quiet")


def _mark(described: CaptionSession) -> str:
    """All but the region in the shade; mark.js draws what is being marked along the same path."""
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
            f"<span>{escape(str(caption)) or '(nothing)'}</span><small>{caption.score:.2f}</small>",
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
    """Drawn pictures to press, for a captioner of such pictures; nothing for others."""
    if not drawn:
        return ""
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
    group = 'class="examples" role="group" aria-label="Example pictures" data-row'
    return f'<p class="faint">Examples</p><div {group}>{"".join(items)}</div>'
