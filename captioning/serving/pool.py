"""The bundles on offer: found, loaded when first asked for, kept, and lent to one request at a time.

Keras must not do two things at once, so there is one lock for all bundles. A captioner that does not answer is given
up, and the next request loads a fresh one.
"""

import contextlib
import functools
import gc
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import captioning
from captioning.errors import BundleError, CaptioningError
from captioning.extras.captioners import is_model, make_ready, open_captioner, sentence_of, short_name
from captioning.extras.questions import Answer, Answerer, check_question, load_answerer
from captioning.extras.questions import make_ready as make_answers_ready
from captioning.extras.segmentation import load_segmenter
from captioning.extras.segmentation import make_ready as make_segments_ready
from captioning.extras.segments import Segment, Segmenter
from captioning.extras.translation import TranslatedCaptioner, Translator, open_translator
from captioning.extras.zero_shot import make_ready as make_labels_ready
from captioning.options import DecodeOptions
from captioning.runtime.memory import resident_bytes
from captioning.serving.offer import Offer, labels, rank, read_offer

if TYPE_CHECKING:
    import numpy as np

    from captioning.inference.caption import Caption
    from captioning.inference.captioner import Captioner
    from captioning.inference.protocol import AnyCaptioner

LONGEST = 60.0  # seconds that one encoding and search may take
LONGEST_PUBLISHED = 600.0  # the same of a published model, which may have thousands of millions of weights


def find_bundles(artifacts: Path, encoder_weights: str = "imagenet") -> list[Path]:
    """The bundles in a folder, the best that opens without a download first; trainings in progress are left out."""
    found = [path.parent for path in artifacts.glob("[!.]*/config.json") if not is_model(path.parent)]
    if not found:
        raise BundleError(f"{artifacts} holds no bundle; train one with make train.")
    return sorted(found, key=lambda folder: rank(read_offer(folder), encoder_weights))


class CaptionerPool:
    """Captioners by name; the name is that of the bundle's folder."""

    at_once = 1  # batches that it captions at the same time

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        encoder_weights: str = "imagenet",
        engine: str = "auto",
        captioners: Sequence[str] = (),
        offline: bool = False,
        translate: Sequence[str] = (),
        questions: str = "",
        labels_model: str = "",
        segments: Sequence[str] = (),
    ) -> None:
        self._folders: dict[str, Path] = {}
        self.encoder_weights, self.engine, self._lock = encoder_weights, engine, FairLock()
        self._captioners: dict[str, Any] = {}
        self._memory: dict[str, int | None] = {}
        self._published: dict[str, str] = {}
        self._offline = offline
        self._used: dict[str, float] = {}  # when each was last asked for
        for folder in folders:
            name = folder.resolve().name
            if not (folder / "config.json").is_file():
                raise BundleError(f"{folder} is not a bundle: it has no config.json; train one with make train.")
            if name in self._folders:
                raise BundleError(f"{folder} and {self._folders[name]} share a name; rename one of the folders.")
            self._folders[name] = folder
        for names in captioners:
            name = short_name(names)
            if name in self.names:
                raise BundleError(f"Two captioners are called {name}; rename the folder of one.")
            self._published[name] = names
        assert self.names, "a pool holds at least one captioner"
        self._translators = [_translator_of(each, offline=offline) for each in translate]
        self.questions = questions  # the name of the model that answers them
        self._answerer: Answerer | None = None
        self.labels_model = labels_model  # CLIP, beside the bundles, for labels
        if labels_model:
            make_labels_ready(labels_model, offline=offline)
        if questions:
            make_answers_ready(questions, offline=offline)
        self.segmenters = list(dict.fromkeys(segments))  # the names of the models that find segments
        self._segmenters: dict[str, Segmenter] = {}
        for each in self.segmenters:
            make_segments_ready(each, offline=offline)

    @property
    def names(self) -> list[str]:
        """The names of the bundles; a page begins with the first."""
        return [*self._folders, *self._published]

    def is_published(self, name: str) -> bool:
        """Whether this is a published model or a cascade, not a bundle."""
        return name in self._published

    def memory(self, name: str) -> int | None:
        """Bytes by which this program grew when the captioner was loaded; None where that is not known."""
        return self._memory.get(name)

    def require(self, name: str) -> None:
        """Refuses a name that no captioner has."""
        if name not in self.names:
            raise CaptioningError(f"No bundle here is called {name}; choose one of {', '.join(self.names)}.")

    def folder(self, name: str) -> Path:
        """The folder of a bundle."""
        self.require(name)
        if self.is_published(name):
            raise CaptioningError(f"{name} is a published captioner, not a bundle; choose a bundle.")
        return self._folders[name]

    def check(self, name: str) -> None:
        """Refuses a bundle whose files are not those of its training, without the seconds that loading it takes."""
        from captioning.inference import bundle

        if self.is_published(name):
            make_ready(self._published[name], offline=self._offline)
            return
        bundle.check(self.folder(name))

    def leave_out(self, name: str) -> None:
        """Offers a bundle no longer."""
        del (self._published if self.is_published(name) else self._folders)[name]

    def search(self, name: str) -> DecodeOptions:
        """The search options saved in a bundle, with all the captions that its beams hold."""
        with self.captioner(name) as captioner:
            return all_beams(captioner.options)

    def offer(self, name: str) -> Offer:
        """What a bundle was trained on, and how well it does."""
        if self.is_published(name):
            return Offer(name, has_encoder=True, published=sentence_of(self._published[name]))
        return read_offer(self.folder(name))

    def sentence(self, name: str) -> str:
        """What a bundle is good for, and its scores."""
        return self.offer(name).sentence(self.encoder_weights)

    @property
    def loaded(self) -> list[str]:
        """The names of the captioners in memory."""
        return list(self._captioners)

    @property
    def languages(self) -> list[str]:
        """The languages that some bundles have beside their own, and those that captions are translated into."""
        return sorted({code for name in self.names for code in self.offer(name).languages} | set(self.translations))

    @property
    def translations(self) -> dict[str, str]:
        """The models that translate captions, by their language."""
        return {each.language: each.name for each in self._translators}

    @property
    def labels(self) -> dict[str, str]:
        """What people choose a bundle by, for every name."""
        return labels(map(self.offer, self.names), self.encoder_weights)

    @contextlib.contextmanager
    def captioner(self, name: str) -> Iterator[Any]:
        """The captioner of a bundle, to nobody else until the block ends."""
        seconds = LONGEST_PUBLISHED if self.is_published(name) else LONGEST
        load = functools.partial(self._load, name if self.is_published(name) else self.folder(name))
        with self._lock:
            if name not in self._captioners:
                before = resident_bytes()
                self._captioners[name] = load()
                after = resident_bytes()
                self._memory[name] = None if before is None or after is None else after - before
            self._used[name] = time.monotonic()
            try:
                yield Patient(self._captioners[name], seconds)
            except TimeoutError:
                del self._captioners[name]
                raise CaptioningError(f"{name} did not answer within {seconds:.0f} seconds; try again.") from None

    def _load(self, what: str | Path) -> Any:
        """The captioner of a bundle's folder, or of the name of a published one, which was made ready before."""
        found: AnyCaptioner
        if isinstance(what, str):
            found = open_captioner(self._published[what], load=self._load_bundle, offline=True)
        else:
            found = self._load_bundle(what)
        return TranslatedCaptioner(found, self._translators) if self._translators else found

    def _load_bundle(self, folder: Path) -> "Captioner":
        return captioning.load(folder, encoder_weights=self.encoder_weights, engine=self.engine)

    def answer(self, image: "np.ndarray | str", question: str) -> Answer:
        """The answer to a question about an image; the model is loaded when it is first asked."""
        asked = check_question(question)
        with self._lock:
            answerer = self._answerer = self._answerer or load_answerer(self.questions, offline=True)
            try:
                return _answer(lambda: answerer.answer(image, [asked])[0], LONGEST_PUBLISHED)
            except TimeoutError:
                self._answerer = None
                raise CaptioningError(
                    f"{self.questions} did not answer within {LONGEST_PUBLISHED:.0f} seconds."
                ) from None

    def segments(self, name: str, image: "np.ndarray", threshold: float) -> list[Segment]:
        """The segments of an image by one of the `segmenters`; it is loaded when it is first asked."""
        if name not in self.segmenters:
            raise CaptioningError(f"No segmenter here is called {name}; choose one of {', '.join(self.segmenters)}.")
        with self._lock:
            if name not in self._segmenters:
                self._segmenters[name] = load_segmenter(name, offline=True)
            segmenter = self._segmenters[name]
            try:
                return _answer(lambda: segmenter.segments(image, threshold=threshold), LONGEST_PUBLISHED)
            except TimeoutError:
                del self._segmenters[name]
                raise CaptioningError(f"{name} did not answer within {LONGEST_PUBLISHED:.0f} seconds.") from None

    def caption(self, name: str, pixels: "list[np.ndarray]", options: DecodeOptions) -> "list[Caption]":
        """The captions of a batch by the captioner of this name."""
        with self.captioner(name) as captioner:
            return captioner.caption(pixels, options)

    def tidy(self, *, idle: float = 0, memory: int = 0) -> list[str]:
        """Unloads captioners that nobody asked for in `idle` seconds, and the one used longest ago above `memory` MB.

        One captioner stays, however much memory there is. Returns the names of those unloaded; 0 sets no limit.
        """
        with self._lock:
            now, order = time.monotonic(), sorted(self._captioners, key=self._used.__getitem__)
            old = [name for name in order if idle and now - self._used[name] > idle]
            if not old and memory and len(order) > 1 and resident_megabytes() > memory:
                old = order[:1]
            for name in old:
                del self._captioners[name]
        if old:
            gc.collect()
        return old


def _translator_of(asked: str, *, offline: bool) -> Translator:
    """The translator of LANGUAGE or of LANGUAGE=MODEL."""
    language, _, model = asked.partition("=")
    return open_translator(language, model, offline=offline)


class FairLock:
    """A lock that is handed on in the order in which it was asked for, so that nobody waits for ever."""

    def __init__(self) -> None:
        self._guard, self._waiting, self._is_held = threading.Lock(), deque[threading.Lock](), False

    def __enter__(self) -> None:
        turn = threading.Lock()
        with self._guard:
            if not self._is_held:
                self._is_held = True
                return
            turn.acquire()
            self._waiting.append(turn)
        turn.acquire()

    def __exit__(self, *_: object) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._is_held = False


def resident_megabytes() -> float:
    """The memory of this process, or the most that it had where the system does not tell what it has."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Patient:
    """A captioner that runs in a thread of its own, which is left behind if it hangs."""

    def __init__(self, captioner: Any, seconds: float = LONGEST) -> None:
        self._captioner, self._seconds = captioner, seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._captioner, name)

    def caption(self, *arguments: Any, **settings: Any) -> Any:
        """As the captioner's own; a TimeoutError where it takes too long."""
        return _answer(lambda: self._captioner.caption(*arguments, **settings), self._seconds)

    def alternatives(self, *arguments: Any, **settings: Any) -> Any:
        """As the captioner's own; a TimeoutError where it takes too long."""
        return _answer(lambda: self._captioner.alternatives(*arguments, **settings), self._seconds)


def _answer(question: Callable[[], Any], seconds: float) -> Any:
    answer: Future[Any] = Future()

    def work() -> None:
        try:
            answer.set_result(question())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return answer.result(seconds)


def all_beams(options: DecodeOptions) -> DecodeOptions:
    """The same search, but with every caption that its beams hold, which costs nothing more."""
    return replace(options, num_captions=options.num_beams) if options.strategy == "beam" else options
