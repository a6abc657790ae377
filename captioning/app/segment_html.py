"""The segments of a picture as HTML: masks over it, the words of its caption, a list. Whatever is shown is escaped."""

from html import escape

import numpy as np

from captioning.app.rendering import TALLEST, button, notice, sign
from captioning.inference.protocol import shows_attention
from captioning.plots.segments import colour_of, edge, middle
from captioning.serving.adjustments import data_uri
from captioning.serving.segment_session import SegmentSession

__all__ = ["EMPTY", "notice", "panel", "stage"]

INSIDE, EDGE = 205, 255  # how opaque a mask is, of 255, where it is shown in full
EMPTY = '<div class="welcome"><p data-t="segments_empty">Choose a picture to see its segments.</p></div>'
HOW = "Press a mask or an entry to caption it. Press an underlined word to highlight its segment."
NONE = "No segment was found. A lower least score shows less certain ones."
UNLINKED = "This captioner gives no attention, so that its words belong to no segment."


def stage(seen: SegmentSession) -> str:
    """The picture under its masks, the largest first, with a number on each."""
    height, width = seen.view.shape[:2]
    size = f"width:min(100%,{TALLEST * width / height:.0f}px);aspect-ratio:{width}/{height}"
    picture = f'<img src="{data_uri(seen.view)}" alt="The picture under its segments" draggable="false">'
    order = sorted(range(len(seen.segments)), key=lambda place: -seen.segments[place].area)
    masks = "".join(
        f'<img class="mask" data-segment="{place}" src="{data_uri(mask_image(seen.segments[place].mask, place))}" '
        'alt="" draggable="false">'
        for place in order
    )
    return (
        f'<figure class="stage"><div class="ground masks" style="{size}">{picture}{masks}'
        f"{''.join(_tag(seen, place) for place in order)}</div></figure>"
    )


def _tag(seen: SegmentSession, place: int) -> str:
    across, down = middle(seen.segments[place].mask)
    where = f"left:{across:.1%};top:{down:.1%}"
    return f'<span class="tag" data-segment="{place}" style="{where};border-color:{_rgb(place)}">{place + 1}</span>'


def mask_image(mask: np.ndarray, place: int) -> np.ndarray:
    """A mask in its colour, uint8 (H, W, 4), opaque at its edge."""
    image = np.zeros((*mask.shape, 4), "uint8")
    image[..., :3] = colour_of(place)
    image[mask, 3] = INSIDE
    image[edge(mask, 2), 3] = EDGE
    return image


def _rgb(place: int) -> str:
    return "rgb({} {} {})".format(*colour_of(place))


def panel(seen: SegmentSession) -> str:
    """The caption, whose linked words can be pressed, and an entry for each segment."""
    caption = seen.caption
    words = " ".join(_word(seen, place) for place in range(len(caption.words))) or escape(str(caption))
    chosen = "" if seen.chosen is None else f' data-chosen="{seen.chosen}"'
    if not seen.segments:
        how = f'<p class="faint" role="status" data-t="segments_none">{NONE}</p>'
    else:
        how = f'<p class="faint" data-t="segments_how">{HOW}</p>'
        if not shows_attention(caption):
            how += f'<p class="faint" data-t="segments_unlinked">{UNLINKED}</p>'
    lines = "".join(f"<li>{_entry(seen, place)}</li>" for place in range(len(seen.segments)))
    return (
        f'<div{chosen}><p class="caption" dir="auto">{words}</p>'
        f"<p>{sign(caption.confidence, caption.verdict)}</p>{how}"
        f'<ol class="lines segments" data-row>{lines}</ol></div>'
    )


def _word(seen: SegmentSession, place: int) -> str:
    text, link = escape(seen.caption.words[place].text), seen.links[place]
    if not link:
        return text
    told = f"{link.lift:.1f} times as much attention as its area"
    return (
        f'<button type="button" class="linked" data-light="{link.place}" data-segment="{link.place}" '
        f'style="border-color:{_rgb(link.place)}" title="{told}">{text}</button>'
    )


def _entry(seen: SegmentSession, place: int) -> str:
    segment, caption = seen.segments[place], seen.captions.get(place)
    share = segment.area / segment.mask.size
    says = f'<span class="swatch" style="background:{_rgb(place)}">{place + 1}</span>'
    says += f'<span class="name"><b>{escape(segment.label)}</b> <small>{segment.score:.0%}</small>'
    if caption:
        says += f'<span class="of-segment" role="status" dir="auto">{escape(str(caption)) or "(nothing)"}</span>'
    label = f"{place + 1}, {segment.label}, {segment.score:.0%}, {share:.0%} of the picture"
    says += f'</span><small><span data-t="area">area</span> {share:.0%}</small>'
    told = f"{label}. {caption}" if caption else label
    pressed = f' data-segment="{place}" aria-pressed="{str(place == seen.chosen).lower()}"'
    return button("select", place, says, kind="line", told=told, more=pressed)
