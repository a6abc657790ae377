"""The addresses under /folder, through which the Folder tab reads and changes the pictures of folders that are open.

They are there only where the app serves this computer alone. A folder that is open has a key that cannot be guessed.
Pictures are asked for by number, so that no path of another file can be named.
"""

import functools
import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from captioning.data.feedback import FeedbackStore
from captioning.errors import CaptioningError, DataError
from captioning.serving.folder_session import FolderSession
from captioning.serving.library import MOST_ROWS, Library, View
from captioning.serving.pool import CaptionerPool

if TYPE_CHECKING:
    from fastapi import APIRouter

KEY = r"[\w-]{43}"
OPEN = {  # what the guard lets through, by method
    "GET": rf"/folder/places|/folder/{KEY}/(?:rows|state|captions\.csv|(?:small|large)/\d{{1,18}})",
    "POST": rf"/folder/open|/folder/{KEY}/(?:caption|stop|correct|accept|replace|undo|write|take-back)",
}
AT_ONCE = 3  # pictures that are made small at the same time
PLACES = 100  # folders that are offered while a path is typed
KEPT = {"cache-control": "private, max-age=86400, immutable"}  # the address changes with the file

Answer = Any
Asked = dict[str, Any]


class Folders:
    """The folders that are open, by key; two pages that open the same folder share it."""

    def __init__(self, pool: CaptionerPool, store: FeedbackStore) -> None:
        self._pool, self._store = pool, store
        self._library: Library | None = None
        self._open: dict[str, FolderSession] = {}
        self._lock, self._making = threading.Lock(), threading.BoundedSemaphore(AT_ONCE)

    @property
    def library(self) -> Library:
        """The database of the folders, beside that of the feedback; made when it is first needed."""
        with self._lock:
            if not self._library:
                self._library = Library(self._store.path.with_name(f"{self._store.path.stem}-folders.db"))
            return self._library

    def open(self, asked: Asked) -> Asked:
        """Opens a folder, or reads again which pictures it has."""
        folder = Path(os.path.normpath(os.path.expanduser(_text(asked, "folder").strip() or "~")))
        library = self.library
        with self._lock:
            key = next((key for key, one in self._open.items() if one.folder == folder), "")
            if key:
                self._open[key].refresh()
            else:
                key = secrets.token_urlsafe(32)
                self._open[key] = FolderSession(library, self._pool, self._store, folder)
        return {"key": key, "folder": str(folder), "database": str(library.path)} | self._open[key].state()

    def places(self, start: str = "") -> list[str]:
        """Folders whose path begins with what is typed; those opened before where nothing is."""
        if not start:
            return self.library.folders() or [str(Path.home())]
        parent, _, name = os.path.expanduser(start).rpartition("/")
        try:
            with os.scandir(parent or "/") as found:
                names = sorted(each.name for each in found if each.is_dir() and not each.name.startswith("."))
        except (OSError, ValueError):
            return []
        fits = [f"{parent}/{each}" for each in names if each.lower().startswith(name.lower())]
        return [each for each in fits if each.isprintable()][:PLACES]

    def session(self, key: str) -> FolderSession:
        """The folder of a key."""
        if key not in self._open:
            raise DataError("The app was started anew since; open the folder again.")
        return self._open[key]

    def image(self, key: str, number: int, *, is_large: bool) -> bytes:
        """A picture of an open folder, made small; few at the same time."""
        with self._making:
            return self.session(key).image(number, is_large=is_large)

    def act(self, key: str, action: str, asked: Asked) -> Asked:
        """Does what a button of the page asks for, and returns the state of the folder."""
        session = self.session(key)
        done = ACTIONS[action](session, asked)
        if action in ("correct", "accept", "replace", "undo"):
            session.version += 1
            session.learn()
        return session.state() | {"done": done}


def _view(asked: Asked) -> View:
    return View(*(_text(asked, name) for name in ("order", "show", "words")))


def _text(asked: Asked, name: str) -> str:
    value = asked.get(name, "")
    if not isinstance(value, str):
        raise DataError(f"{name} is no text; reload the page.")
    return value


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise DataError(f"{value!r} is no picture's number; reload the page.")
    return value


def _accept(session: FolderSession, asked: Asked) -> int:
    numbers = asked.get("ids")
    chosen = [_number(each) for each in numbers] if isinstance(numbers, list) else []
    return session.library.accept(session.number, chosen[:MOST_ROWS], is_right=asked.get("right") is not False)


ACTIONS: dict[str, Callable[[FolderSession, Asked], Any]] = {
    "caption": lambda session, asked: session.caption(_text(asked, "bundle"), _text(asked, "language")),
    "stop": lambda session, _: session.stop(),
    "correct": lambda session, asked: session.library.correct(
        session.number, _number(asked.get("id")), _text(asked, "text"), _text(asked, "before")
    ),
    "accept": _accept,
    "replace": lambda session, asked: session.library.replace(
        session.number, _view(asked), _text(asked, "find"), _text(asked, "put")
    ),
    "undo": lambda session, _: session.library.undo(session.number),
    "write": lambda session, asked: session.write(_text(asked, "target"), _text(asked, "exists"), _view(asked)),
    "take-back": lambda session, _: session.take_back(),
}


def folder_routes(pool: CaptionerPool, store: FeedbackStore) -> "APIRouter":
    """The addresses of the Folder tab."""
    from fastapi import APIRouter, Body
    from fastapi.responses import Response

    folders, router = Folders(pool, store), APIRouter(prefix="/folder")

    def open_folder(asked: Annotated[Asked, Body()]) -> Answer:
        return folders.open(asked)

    def rows(key: str, order: str = "name", show: str = "all", words: str = "", start: int = 0) -> Answer:
        session = folders.session(key)
        total, found = session.library.rows(session.number, View(order, show, words), start)
        return {"total": total, "rows": [row | {"time": str(row["time"])} for row in found]}

    def picture(key: str, size: str, number: int) -> Answer:
        return Response(folders.image(key, number, is_large=size == "large"), media_type="image/jpeg", headers=KEPT)

    def as_csv(key: str, order: str = "name", show: str = "all", words: str = "") -> Answer:
        data = folders.session(key).csv(View(order, show, words))
        headers = {"content-disposition": 'attachment; filename="captions.csv"'}
        return Response(data, media_type="text/csv", headers=headers)

    def act(key: str, action: str, asked: Annotated[Asked, Body()]) -> Answer:
        return folders.act(key, action, asked)

    router.add_api_route("/open", _refusing(open_folder), methods=["POST"])
    router.add_api_route("/places", _refusing(folders.places), methods=["GET"])
    router.add_api_route("/{key}/rows", _refusing(rows), methods=["GET"])
    router.add_api_route("/{key}/state", _refusing(lambda key: folders.session(key).state()), methods=["GET"])
    router.add_api_route("/{key}/captions.csv", _refusing(as_csv), methods=["GET"])
    router.add_api_route("/{key}/{size}/{number}", _refusing(picture), methods=["GET"])
    router.add_api_route("/{key}/{action}", _refusing(act), methods=["POST"])
    return router


def _refusing(handler: Callable[..., Answer]) -> Callable[..., Answer]:
    """The handler, which tells a person's mistake in a sentence."""
    from fastapi.responses import JSONResponse

    @functools.wraps(handler)
    def answer(*values: Any, **settings: Any) -> Answer:
        try:
            return handler(*values, **settings)
        except CaptioningError as error:
            return JSONResponse({"detail": str(error)}, 422)

    return answer
