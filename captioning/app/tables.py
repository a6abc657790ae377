"""Lists as HTML: many captioned pictures, scores, captions epoch by epoch, feedback.

Whatever comes from a bundle, a person or a file is escaped here.
"""

import re
from collections.abc import Sequence
from html import escape
from typing import Any

from captioning.app.bundle_report import Learning
from captioning.app.rendering import player, sign
from captioning.app.texts import TEXTS
from captioning.data.feedback import Feedback, FeedbackStore
from captioning.serving.adjustments import data_uri, shown
from captioning.serving.answers import Row

THUMBNAIL = 160  # pixels
EPOCH = 1.0  # seconds of one in the time-lapse
SPLITS = {"dev": "validation"}  # split by the name that people use for it


def table(kind: str, heads: Sequence[str], lines: Sequence[str]) -> str:
    """A table of a kind, with the names of its columns, or the keys of their translated texts, and its rows as HTML."""
    head = "".join(map(_head, heads))
    whole = f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
    return f'<div class="scroll" tabindex="0">{whole}</div>'  # what is wider than a phone scrolls in here


def _head(name: str) -> str:
    text = TEXTS["en"].get(name)
    return f'<th scope="col" data-t="{name}">{escape(text)}</th>' if text else f'<th scope="col">{escape(name)}</th>'


def batch_table(rows: Sequence[Row], paths: Sequence[str]) -> str:
    """A row for every picture: a small copy, its name, and its caption or what is wrong with it."""
    bad = sum(bool(row["problem"]) for row in rows)
    says = f"{len(rows) - bad} captioned" + (f", {bad} could not be read" if bad else "")
    lines = [_batch_line(row, path) for row, path in zip(rows, paths, strict=True)]
    heads = ("picture", "head_caption", "head_confidence")
    return f'<p class="faint" role="status">{says}</p>' + table("many", heads, lines)


def _batch_line(row: Row, path: str) -> str:
    if row["problem"]:
        return f'<tr class="bad">{_named(row, "")}<td colspan="2">{escape(row["problem"])}</td></tr>'
    name = _named(row, data_uri(shown(path), longest=THUMBNAIL))
    return f"<tr>{name}<td>{escape(row['caption'])}</td><td>{sign(row['confidence'], row['verdict'])}</td></tr>"


def _named(row: Row, picture: str) -> str:
    small = f'<img alt="" src="{picture}">' if picture else '<span class="blank"></span>'
    return f'<th scope="row"><div>{small}<span class="file">{_breakable(row["image"])}</span></div></th>'


def _breakable(name: str) -> str:
    """A file's name that a line may end within: after what stands between its words, and before its ending."""
    parts = re.split(r"(?<=[-_ ])|(?=\.[^.]*$)", name)
    return "<wbr>".join(map(escape, parts))


def score_table(cards: dict[str, Any]) -> str:
    """The scores of every split side by side, with their 95 % intervals."""
    if not cards:
        return _absent("scores")
    splits = list(reversed(cards.values()))
    heads = ["", *(f"{SPLITS.get(card['split'], card['split'])}, {card['images']:,} pictures" for card in splits)]
    names = dict.fromkeys(name for card in splits for name in card["scores"])
    lines = [_score_line(name, [_interval(card["scores"].get(name)) for card in splits]) for name in names]
    shuffled = [f"{card['shuffled_images']['CIDEr-D']:.3f}" for card in splits]
    distinct = [f"{card['variety']['distinct_captions']:.0%}" for card in splits]
    lines += [_score_line("CIDEr-D, images shuffled", shuffled), _score_line("Distinct captions", distinct)]
    note = '<p class="faint">Small numbers: 95 % confidence interval.</p>'
    return table("scores", heads, lines) + note


def _score_line(name: str, cells: Sequence[str]) -> str:
    return f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _interval(score: dict[str, float] | None) -> str:
    return f"{score['value']:.3f} <small>{score['low']:.3f} to {score['high']:.3f}</small>" if score else ""


def _absent(what: str) -> str:
    return f'<p class="faint">This bundle has no {what}.</p>'


def lapse(learning: Learning) -> str:
    """The captions of the watched pictures that are at hand, epoch by epoch, with a player."""
    rows = {number: image for number, image in enumerate(learning.images) if image is not None}
    last = len(learning.captions) - 1
    if not rows or last < 1:
        return ""
    cards = [f'<li><img alt="" src="{data_uri(image)}">{_epochs(learning, row)}</li>' for row, image in rows.items()]
    numbers = [
        f'<output data-place="{epoch}"{_hidden(epoch < last)}>Epoch {epoch + 1}</output>' for epoch in range(last + 1)
    ]
    seek = f'<input type="range" min="0" max="{last}" value="{last}" data-seek="#lapse" aria-label="Epoch">'
    steps = player("#lapse", EPOCH, more=f"<label>{''.join(numbers)}{seek}</label>")
    return (
        f"<h2>Captions after each epoch</h2>{steps}"
        '<p class="faint">Underlined words are not in the last caption.</p>'
        f'<ul class="lapse" data-start="0" data-last="{last}">{"".join(cards)}</ul>'
    )


def _hidden(is_hidden: bool) -> str:
    return " hidden" if is_hidden else ""


def _epochs(learning: Learning, row: int) -> str:
    last = len(learning.captions) - 1
    return "".join(
        f'<p data-place="{epoch}"{_hidden(epoch < last)}>{_staying(captions[row], learning.captions[last][row])}</p>'
        for epoch, captions in enumerate(learning.captions)
    )


def _staying(caption: str, final: str) -> str:
    left, words = final.split(), []
    for word in caption.split():
        stays = word in left
        if stays:
            left.remove(word)
        words.append(escape(word) if stays else f'<span class="passing">{escape(word)}</span>')
    return " ".join(words)


def feedback_list(entries: Sequence[Feedback], store: FeedbackStore, *, most: int) -> str:
    """Feedback entries, newest first, `most` at most, each with a box to tick; a button deletes those ticked."""
    if not entries:
        return '<p class="faint" role="status">No feedback fits.</p>'
    says = "1 entry" if len(entries) == 1 else f"{len(entries):,} entries"
    says += f", the newest {most} of them here" if len(entries) > most else ""
    cards = "".join(_said(entry, store) for entry in entries[:most])
    return (
        f'<div class="bar"><span class="faint" role="status">{says}</span>'
        f'<button type="button" class="quiet" data-all>Tick all</button>'
        f'<button type="button" class="quiet danger" data-delete>Delete ticked</button></div>'
        f'<ul class="said">{cards}</ul>'
    )


def _said(entry: Feedback, store: FeedbackStore) -> str:
    rated = "not rated" if entry.rating is None else f"rated {entry.rating} of 5"
    better = f"<p><ins>{escape(entry.correction)}</ins></p>" if entry.correction else ""
    comment = f"<p>&ldquo;{escape(entry.comment)}&rdquo;</p>" if entry.comment else ""
    kind = "was" if entry.correction else ""
    return (
        f'<li><input type="checkbox" data-id="{entry.id}" aria-label="Entry {entry.id}: {escape(entry.caption)}">'
        f'{_copy(entry, store)}<div><p class="{kind}">{escape(entry.caption)}</p>{better}{comment}'
        f'<p class="faint">{rated}, {escape(entry.bundle)}, {escape(entry.time[:16].replace("T", " "))}</p></div></li>'
    )


def _copy(entry: Feedback, store: FeedbackStore) -> str:
    path = store.image(entry)
    return f'<img alt="" src="{data_uri(shown(path), longest=THUMBNAIL)}">' if path.exists() else ""
