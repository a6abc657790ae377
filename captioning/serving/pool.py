"""The bundles on offer: found, loaded when first asked for, kept, and lent to one request at a time.

Keras must not do two things at once, so there is one lock for all bundles. A captioner that does not answer is given
up, and the next request loads a fresh one.
"""

import contextlib
import gc
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import captioning
from captioning.errors import BundleError, CaptioningError
from captioning.options import DecodeOptions
from captioning.serving.offer import Offer, labels, rank, read_offer

LONGEST = 60.0  # seconds that one encoding and search may take


def find_bundles(artifacts: Path, encoder_weights: str = "imagenet") -> list[Path]:
    """The bundles in a folder, the best that opens without a download first; trainings in progress are left out."""
    found = [path.parent for path in artifacts.glob("[!.]*/config.json")]
    if not found:
        raise BundleError(f"{artifacts} holds no bundle; train one with make train.")
    return sorted(found, key=lambda folder: rank(read_offer(folder), encoder_weights))


class CaptionerPool:
    """Captioners by name; the name is that of the bundle's folder."""

    def __init__(self, folders: Sequence[Path], *, encoder_weights: str = "imagenet", engine: str = "auto") -> None:
        self._folders: dict[str, Path] = {}
        self._weights, self.engine, self._lock = encoder_weights, engine, FairLock()
        self._captioners: dict[str, Any] = {}
        self._used: dict[str, float] = {}  # when each was last asked for
        for folder in folders:
            name = folder.resolve().name
            if not (folder / "config.json").is_file():
                raise BundleError(f"{folder} is not a bundle: it has no config.json; train one with make train.")
            if name in self._folders:
                raise BundleError(f"{folder} and {self._folders[name]} share a name; rename one of the folders.")
            self._folders[name] = folder
        assert self._folders, "a pool holds at least one bundle"

    @property
    def names(self) -> list[str]:
        """The names of the bundles; a page begins with the first."""
        return list(self._folders)

    def folder(self, name: str) -> Path:
        """The folder of a bundle."""
        if name not in self._folders:
            raise CaptioningError(f"No bundle here is called {name}; choose one of {', '.join(self._folders)}.")
        return self._folders[name]

    def check(self, name: str) -> None:
        """Refuses a bundle whose files are not those of its training, without the seconds that loading it takes."""
        from captioning.inference import bundle

        bundle.check(self.folder(name))

    def leave_out(self, name: str) -> None:
        """Offers a bundle no longer."""
        del self._folders[name]

    def search(self, name: str) -> DecodeOptions:
        """The search options saved in a bundle, with all the captions that its beams hold."""
        with self.captioner(name) as captioner:
            return all_beams(captioner.options)

    def offer(self, name: str) -> Offer:
        """What a bundle was trained on, and how well it does."""
        return read_offer(self.folder(name))

    def sentence(self, name: str) -> str:
        """What a bundle is good for, and its scores."""
        return self.offer(name).sentence(self._weights)

    @property
    def loaded(self) -> list[str]:
        """The names of the captioners in memory."""
        return list(self._captioners)

    @property
    def languages(self) -> list[str]:
        """The languages that some bundles have beside their own."""
        return sorted({code for name in self.names for code in self.offer(name).languages})

    @property
    def labels(self) -> dict[str, str]:
        """What people choose a bundle by, for every name."""
        return labels(map(self.offer, self.names), self._weights)

    @contextlib.contextmanager
    def captioner(self, name: str) -> Iterator[Any]:
        """The captioner of a bundle, to nobody else until the block ends."""
        folder = self.folder(name)
        with self._lock:
            if name not in self._captioners:
                self._captioners[name] = captioning.load(folder, encoder_weights=self._weights, engine=self.engine)
            self._used[name] = time.monotonic()
            try:
                yield Patient(self._captioners[name])
            except TimeoutError:
                del self._captioners[name]
                raise CaptioningError(f"{name} did not answer within {LONGEST:.0f} seconds; try again.") from None

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

    def __init__(self, captioner: Any) -> None:
        self._captioner = captioner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._captioner, name)

    def caption(self, *arguments: Any, **settings: Any) -> Any:
        """As the captioner's own; a TimeoutError where it takes too long."""
        return _answer(lambda: self._captioner.caption(*arguments, **settings))

    def alternatives(self, *arguments: Any, **settings: Any) -> Any:
        """As the captioner's own; a TimeoutError where it takes too long."""
        return _answer(lambda: self._captioner.alternatives(*arguments, **settings))


def _answer(question: Callable[[], Any]) -> Any:
    answer: Future[Any] = Future()

    def work() -> None:
        try:
            answer.set_result(question())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return answer.result(LONGEST)


def all_beams(options: DecodeOptions) -> DecodeOptions:
    """The same search, but with every caption that its beams hold, which costs nothing more."""
    return replace(options, num_captions=options.num_beams) if options.strategy == "beam" else options
