"""Feedback on captions: the form under a caption, and the owner's page with all entries."""

from typing import Any

import gradio as gr

from captioning.app.tables import feedback_list
from captioning.app.texts import SAY
from captioning.app.widgets import STORE, TICK, download, piece, present, refusing
from captioning.data.feedback import MAX_ENTRIES, MAX_TEXT, Feedback, FeedbackStore
from captioning.serving.session import CaptionSession

CONSENT = (
    "Sending keeps the picture, the caption, its settings and what you write on the computer that runs this app. "
    "Its owner can read them and train on them. Send no picture of people who would not want that."
)
STARS = [("1 wrong", 1), ("2", 2), ("3", 3), ("4", 4), ("5 right", 5)]
ANY = "any"
LISTED = 50  # entries that the page shows


class FeedbackForm:
    """A rating, a better caption and a comment on the caption that is shown."""

    def __init__(self, seen: gr.State, store: FeedbackStore) -> None:
        self._store = store
        with gr.Accordion(SAY("feedback"), open=False):
            self._rating = gr.Radio(STARS, label=SAY("rating"))
            self._correction = gr.Textbox(label=SAY("correction"), max_length=MAX_TEXT)
            self._comment = gr.Textbox(label=SAY("comment"), max_length=MAX_TEXT)
            piece(f'<p class="faint">{CONSENT}</p>')
            send = gr.Button(SAY("send"), size="sm")
            self._thanks = piece()
        send.click(self._send, [seen, self._rating, self._correction, self._comment], self.parts, **STORE)

    @property
    def parts(self) -> list[Any]:
        """The widgets that `fresh` resets."""
        return [self._rating, self._correction, self._comment, self._thanks]

    def fresh(self, thanks: str = "") -> dict[Any, Any]:
        """An empty form."""
        return dict(zip(self.parts, (None, "", "", thanks), strict=True))

    def _send(self, seen: CaptionSession | None, rating: int | None, correction: str, comment: str) -> dict[Any, Any]:
        with refusing():
            said = keep(self._store, present(seen), rating=rating, correction=correction, comment=comment)
        return self.fresh(f'<p role="status">Thank you; it is kept as entry {said.id}.</p>')


def keep(store: FeedbackStore, seen: CaptionSession, *, rating: int | None, correction: str, comment: str) -> Feedback:
    """Stores feedback on the caption that is shown."""
    return store.add(
        seen.view,
        bundle=seen.bundle,
        caption=seen.caption.text,
        options=seen.how,
        rating=rating,
        correction=correction,
        comment=comment,
    )


class FeedbackTab:
    """All entries, for the owner: filtered, exported, deleted."""

    def __init__(self, store: FeedbackStore, labels: dict[str, str]) -> None:
        self._store = store
        with gr.Row(elem_classes="filters"):
            names = [(label, name) for name, label in labels.items()]
            bundle = gr.Dropdown([(ANY, ANY), *names], value=ANY, label="Captioner", filterable=False, min_width=120)
            most = gr.Dropdown([(ANY, 0), *STARS], value=0, label="Rated at most", filterable=False, min_width=120)
            kind = gr.Dropdown(
                [ANY, "corrected", "not corrected"], value=ANY, label="Correction", filterable=False, min_width=120
            )
            text = gr.Textbox(label="Holds the words", max_length=100, min_width=160)
        self._list = piece(script=TICK, elem_id="said")
        with gr.Row():
            refresh = gr.Button("Refresh", size="sm", min_width=120)
            self._export = gr.DownloadButton("Export as CSV", size="sm", min_width=120)
        self._filters = [bundle, most, kind, text]
        outputs = [self._list, self._export]
        for chosen in (bundle.change, most.change, kind.change, text.change, refresh.click):
            chosen(self.listed, self._filters, outputs, **STORE)
        self._list.delete(self._delete, self._filters, outputs, **STORE)

    @property
    def wiring(self) -> dict[str, Any]:
        """The settings of an event that brings the list up to date."""
        return {"fn": self.listed, "inputs": self._filters, "outputs": [self._list, self._export], **STORE}

    def listed(self, bundle: str, most: int, kind: str, text: str) -> tuple[str, str]:
        """The list of the entries that fit, and their CSV file."""
        with refusing():
            found = self._store.list(
                bundle="" if bundle == ANY else bundle,
                most_rating=most or None,
                corrected=None if kind == ANY else kind == "corrected",
                text=text,
                limit=MAX_ENTRIES,
            )
            return feedback_list(found, self._store, most=LISTED), download(self._store.csv(found), "feedback.csv")

    def _delete(self, event: gr.EventData, *filters: Any) -> tuple[str, str]:
        with refusing():
            self._store.delete([int(number) for number in event.value])
        return self.listed(*filters)
