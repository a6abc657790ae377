"""Pictures of several requests captioned together: a bounded queue, a short wait for others, a cache of answers.

Only pictures for the same captioner and the same search share a batch. Samples are drawn for one picture at a time,
since what is drawn depends on the batch.
"""

import functools
import hashlib
import io
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from captioning.data.images import read_image
from captioning.errors import CaptioningError
from captioning.options import DecodeOptions, ServeOptions, changed
from captioning.serving.pool import CaptionerPool, all_beams

if TYPE_CHECKING:
    from captioning.inference.caption import Caption

Seen = Callable[[str, float], None]  # told the name of an event and its value


class Busy(CaptioningError):  # noqa: N818
    """The queue is full."""


LONGEST = 640  # pixels of the longer side of a picture that a published captioner is handed


@dataclass(frozen=True)
class Facts:
    """What a captioner needs of a picture, and the search it uses unless told otherwise."""

    image_size: int  # 0: it takes pictures in their own shape
    options: DecodeOptions


@dataclass(eq=False)
class _Asked:
    bundle: str
    options: DecodeOptions
    pixels: np.ndarray  # uint8 (S, S, 3), or (H, W, 3)
    answer: "Future[Caption]" = field(default_factory=Future)
    time: float = field(default_factory=time.monotonic)

    def is_like(self, other: "_Asked") -> bool:
        """Whether both can be captioned together."""
        return (self.bundle, self.options) == (other.bundle, other.options) and self.options.strategy != "sample"


class Batcher:
    """Captions pictures in batches, in a thread for each batch that the pool captions at once."""

    def __init__(self, pool: CaptionerPool, options: ServeOptions | None = None, *, seen: Seen | None = None) -> None:
        self.pool, self.options = pool, options or ServeOptions()
        self._seen = seen or (lambda event, value: None)
        self._waiting: deque[_Asked] = deque()
        self._facts: dict[str, Facts] = {}
        self._answers: OrderedDict[tuple[bytes, str, DecodeOptions], Future[Caption]] = OrderedDict()
        self._changed, self._held, self._is_closed = threading.Condition(), 0, False
        for _ in range(pool.at_once):
            threading.Thread(target=self._work, name="batches", daemon=True).start()

    @property
    def held(self) -> int:
        """Pictures that wait or are captioned."""
        return self._held

    def facts(self, bundle: str) -> Facts:
        """The facts of a captioner, which is opened when they are first asked for."""
        if bundle not in self._facts:
            with self.pool.captioner(bundle) as captioner:
                self._facts[bundle] = Facts(getattr(captioner, "image_size", 0), captioner.options)
        return self._facts[bundle]

    def search(self, bundle: str, changes: dict[str, Any]) -> DecodeOptions:
        """A captioner's own search with some options changed; a beam search returns all its captions."""
        options = changed(replace(self.facts(bundle).options, num_captions=1), **changes)
        return options if "num_captions" in changes else all_beams(options)

    def reserve(self, count: int) -> None:
        """Takes room for pictures that will be submitted; `release` gives it back."""
        with self._changed:
            self.refuse_full(count)
            self._held += count

    def refuse_full(self, count: int = 1) -> None:
        """Refuses where there is no room for so many pictures now."""
        if self._held + count > self.options.queue:
            raise Busy(f"{self._held} pictures are waiting, no more than {self.options.queue} can; try again soon.")

    def refuse_crowd(self, requests: int) -> None:
        """Refuses one more request where so many are under way, with at least a picture each, before it is read."""
        self.refuse_full(max(1, requests - self._held + 1))

    def release(self, count: int) -> None:
        """Gives back room that was reserved."""
        with self._changed:
            self._held -= count

    def caption(self, data: bytes, bundle: str, options: DecodeOptions) -> "Future[Caption]":
        """The caption to come of a picture's file; an identical picture that was asked for before shares its answer."""
        key = (hashlib.sha256(data).digest(), bundle, options)
        with self._changed:
            known = self._answers.get(key)
            if known:
                self._answers.move_to_end(key)
        if known:
            self._seen("cached", 1)
            return known
        size = self.facts(bundle).image_size
        pixels = read_image(io.BytesIO(data), size=size or None, longest=None if size else LONGEST)
        asked = _Asked(bundle, options, pixels)
        with self._changed:
            self._waiting.append(asked)
            self._changed.notify_all()
        self._keep(key, asked.answer)
        return asked.answer

    def _keep(self, key: tuple[bytes, str, DecodeOptions], answer: "Future[Caption]") -> None:
        """Keeps an answer, but for one that is a failure."""
        with self._changed:
            self._answers[key] = answer
            while len(self._answers) > self.options.answers:
                self._answers.popitem(last=False)
        answer.add_done_callback(lambda done: self._forget(key) if done.exception() else None)

    def _forget(self, key: tuple[bytes, str, DecodeOptions]) -> None:
        with self._changed:
            self._answers.pop(key, None)

    def close(self) -> None:
        """Ends the thread once what waits is answered."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _work(self) -> None:
        while batch := self._next():
            self._seen("batch", len(batch))
            self._answer(batch)

    def _next(self) -> list[_Asked]:
        """The next pictures that go together, oldest first; none when closed."""
        with self._changed:
            while self._changed.wait_for(lambda: self._waiting or self._is_closed) and self._waiting:
                first = self._waiting[0]
                until = first.time + self.options.window / 1000
                self._changed.wait_for(functools.partial(self._is_full, first), max(0.0, until - time.monotonic()))
                if first in self._waiting:  # else another thread has taken it
                    batch = self._alike(first)[: self.options.batch_size]
                    self._waiting = deque(asked for asked in self._waiting if asked not in batch)
                    return batch
            return []

    def _is_full(self, first: _Asked) -> bool:
        """Whether there is nothing to wait for."""
        if self._is_closed or first not in self._waiting or first.options.strategy == "sample":
            return True
        return len(self._alike(first)) >= self.options.batch_size

    def _alike(self, first: _Asked) -> list[_Asked]:
        return [asked for asked in self._waiting if asked is first or asked.is_like(first)]

    def _answer(self, batch: list[_Asked]) -> None:
        """Captions a batch; where that fails, each alone, so that one bad picture spoils no other."""
        first = batch[0]
        try:
            captions = self.pool.caption(first.bundle, [asked.pixels for asked in batch], first.options)
        except BaseException as error:  # whoever asked gets it
            if len(batch) == 1:
                first.answer.set_exception(error)
            else:
                for asked in batch:
                    self._answer([asked])
            return
        for asked, caption in zip(batch, captions, strict=True):
            asked.answer.set_result(caption)
