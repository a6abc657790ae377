"""The bundles on offer: found, loaded when first asked for, kept, and lent to one request at a time.

Knows nothing of pages. Keras is not asked to do two things at once, so there is one lock for all bundles; one that does
not answer is given up, and whoever asks next is answered by a fresh one.
"""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import captioning
from captioning.errors import BundleError, CaptioningError
from captioning.options import DecodeOptions

POCKET = "pocket"  # the bundle that comes along, which needs nothing from elsewhere
LONGEST = 60.0  # seconds that one look or search may take


def find_bundles(artifacts: Path) -> list[Path]:
    """The bundles in a folder, the pocket one first and the others by name; a training in progress is none."""
    found = sorted((path.parent for path in artifacts.glob("[!.]*/config.json")), key=_pocket_first)
    if not found:
        raise BundleError(f"{artifacts} holds no bundle; train one with make train.")
    return found


def _pocket_first(folder: Path) -> tuple[bool, str]:
    return folder.name != POCKET, folder.name


class CaptionerPool:
    """Captioners by name; the name is that of the bundle's folder."""

    def __init__(self, folders: Sequence[Path], *, encoder_weights: str = "imagenet") -> None:
        self._folders: dict[str, Path] = {}
        self._weights, self._lock = encoder_weights, threading.Lock()
        self._captioners: dict[str, Any] = {}
        for folder in folders:
            name = folder.resolve().name
            if not (folder / "config.json").is_file():
                raise BundleError(f"{folder} is not a bundle: it has no config.json; train one with make train.")
            if name in self._folders:
                raise BundleError(f"{folder} and {self._folders[name]} share a name; rename one of the folders.")
            self._folders[name] = folder
        assert self._folders, "a shelf holds at least one bundle"

    @property
    def names(self) -> list[str]:
        """The bundles' names; the first is the one that a page begins with."""
        return list(self._folders)

    def folder(self, name: str) -> Path:
        """The folder of a bundle."""
        if name not in self._folders:
            raise CaptioningError(f"No bundle here is called {name}; choose one of {', '.join(self._folders)}.")
        return self._folders[name]

    def check(self, name: str) -> None:
        """Refuses a bundle whose files are not those of its training; it is not loaded, which would take seconds."""
        from captioning.inference import bundle

        bundle.check(self.folder(name))

    def leave_out(self, name: str) -> None:
        """Offers a bundle no longer."""
        del self._folders[name]

    def search(self, name: str) -> DecodeOptions:
        """A bundle's own search, with all the captions that it finds."""
        with self.captioner(name) as captioner:
            return all_beams(captioner.options)

    def data(self, name: str) -> str:
        """What a bundle calls the data that it was trained on; nothing where it does not say."""
        about = json.loads((self.folder(name) / "config.json").read_bytes()).get("about")
        return str(about.get("data", "")) if isinstance(about, dict) else ""

    def draws(self, name: str) -> bool:
        """Whether a bundle was trained on the built-in drawn scenes."""
        return self.data(name).removesuffix("-smoke") == "scenes"

    @contextlib.contextmanager
    def captioner(self, name: str) -> Iterator[Any]:
        """The captioner of a bundle, to nobody else until the block ends."""
        folder = self.folder(name)
        with self._lock:
            if name not in self._captioners:
                self._captioners[name] = captioning.load(folder, encoder_weights=self._weights)
            try:
                yield Patient(self._captioners[name])
            except TimeoutError:
                del self._captioners[name]
                raise CaptioningError(f"{name} did not answer within {LONGEST:.0f} seconds; try again.") from None


class Patient:
    """A captioner that is asked in a thread of its own, which can be left behind where it hangs."""

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

    def think() -> None:
        try:
            answer.set_result(question())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=think, daemon=True).start()
    return answer.result(LONGEST)


def all_beams(options: DecodeOptions) -> DecodeOptions:
    """The same search, but with every caption that its beams hold: they cost nothing more."""
    return replace(options, num_captions=options.num_beams) if options.strategy == "beam" else options
