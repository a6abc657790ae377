"""What is sent to the REST interface and what it answers, as typed records for checks and for the OpenAPI document.

The search fields are made from DecodeOptions, the one place where search options are described.
"""

from dataclasses import fields
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from captioning.options import DecodeOptions

MOST_PICTURES = 16  # of one request
MOST_IN_A_JOB = 1000


class Sent(BaseModel):
    """A body; fields that do not exist are refused."""

    model_config = ConfigDict(extra="forbid")


def _search_fields() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in fields(DecodeOptions):
        choices = entry.metadata["choices"]
        kind: Any = Literal[choices] if choices else list[str] if isinstance(entry.default, tuple) else entry.type
        about = f"{entry.metadata['help']}; default: the captioner's own"
        found[entry.name] = (kind | None, Field(default=None, description=about))
    return found


Search: type[Sent] = create_model("Search", __base__=Sent, **_search_fields())


class Asked(Sent):
    """Whose captions are meant."""

    captioner: str = Field(default="", description="name from /v1/captioners; default: the first, or that of the split")
    subject: str = Field(
        default="",
        max_length=200,
        description="whom the caption is for, as any code; in a split, a subject always gets the same captioner",
    )


class CaptionSettings(Asked, Search):  # type: ignore[misc, valid-type]
    """Which captioner, what is answered beside the caption, and search options."""

    boxes: bool = Field(default=False, description="also the box of the picture that each word attends to most")

    def search(self) -> dict[str, Any]:
        """The search options that were sent."""
        names = [entry.name for entry in fields(DecodeOptions)]
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class AttentionSettings(CaptionSettings):
    """As for a caption, and the kind of drawing."""

    format: Literal["png", "gif"] = Field("png", description="png: a panel for each word; gif: a walk through them")


class FeedbackSettings(Asked):
    """What a person says of a caption, and the captioner that wrote it."""

    caption: str = Field(description="the caption that it is about", max_length=2000)
    rating: int | None = Field(default=None, description="1 wrong to 5 right", ge=1, le=5)
    correction: str = Field(default="", description="what the caption should say", max_length=500)
    comment: str = Field(default="", max_length=500)


class Word(BaseModel):
    """One word of a caption."""

    text: str
    probability: float
    box: list[float] | None = Field(default=None, description="left, top, right, bottom as shares; on request")


class Alternative(BaseModel):
    """Another caption that the search found."""

    caption: str
    score: float | None


class PictureProblem(BaseModel):
    """Why a picture has no caption."""

    code: str
    detail: str


class PictureCaption(BaseModel):
    """The caption of one picture, or the problem with it."""

    image: str = Field(description="the name of the file as it was sent, or its number")
    caption: str | None = None
    confidence: float | None = Field(default=None, description="null where the captioner has no calibration")
    sure: bool | None = None
    verdict: Literal["sure", "not sure", "unfamiliar", "not calibrated", "unknown"] | None = None
    score: float | None = Field(default=None, description="length-normalised log-probability")
    language: str | None = None
    original: str | None = Field(default=None, description="what was translated; words belong to it")
    translated_by: str | None = Field(default=None, description="the model that translated the caption")
    words: list[Word] = []
    alternatives: list[Alternative] = []
    problem: PictureProblem | None = None


class Captions(BaseModel):
    """The captions in the order of the pictures."""

    captions: list[PictureCaption]
    captioner: str
    request_id: str


class CaptionerOffer(BaseModel):
    """A captioner that may be asked for."""

    name: str
    label: str
    about: str
    languages: list[str]
    translations: list[str] = Field(description="languages that its English captions are translated into")
    cider: float | None
    bleu: float | None
    is_calibrated: bool
    is_loaded: bool


class Captioners(BaseModel):
    """The captioners, the default first."""

    captioners: list[CaptionerOffer]


class FeedbackKept(BaseModel):
    """The entry under which feedback is kept."""

    id: int


class JobState(BaseModel):
    """A job and how far it is."""

    id: str
    state: Literal["queued", "running", "done", "cancelled"]
    captioner: str
    pictures: int
    answered: int
    created: str
    finished: str | None


class Jobs(BaseModel):
    """Jobs, newest first."""

    jobs: list[JobState]


class Health(BaseModel):
    """Whether the service lives, or is ready."""

    status: Literal["ok", "ready", "busy", "starting", "stopping"]


class ProblemBody(BaseModel):
    """A refusal (RFC 9457)."""

    type: str
    title: str
    status: int
    code: str = Field(description="a short word for programs")
    detail: str = Field(description="a sentence: what happened, what was expected, how to mend it")
    request_id: str
