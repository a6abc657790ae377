"""Keys of the REST service: who may ask, as what, and how many pictures per hour and day.

A key is shown once. The database holds its salted hash, which is enough for 256 random bits.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from captioning.data.database import Database, Layout
from captioning.errors import CaptioningError
from captioning.serving.problems import Problem

ROLES = ("caption", "admin")
FILE = "keys.db"  # in the folder of a service
PERIODS = {"hour": 3600, "day": 86_400}  # seconds
PREFIX = "ck"
LONGEST_NAME = 60

TABLES = (
    "CREATE TABLE keys (id TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, salt BLOB NOT NULL, "
    "hash BLOB NOT NULL, per_hour INTEGER NOT NULL, per_day INTEGER NOT NULL, created TEXT NOT NULL, revoked TEXT)",
    "CREATE TABLE usage (holder TEXT NOT NULL, period TEXT NOT NULL, start INTEGER NOT NULL, "
    "pictures INTEGER NOT NULL, PRIMARY KEY (holder, period, start))",
    "CREATE TABLE totals (holder TEXT PRIMARY KEY, pictures INTEGER NOT NULL, last TEXT NOT NULL)",
)
LAYOUT = Layout("keys", 0x43415059, 1, TABLES)
USED = "SELECT coalesce(sum(pictures), 0) FROM usage WHERE holder = ? AND period = ? AND start = ?"
ADD = """INSERT INTO usage VALUES (?, ?, ?, ?)
    ON CONFLICT (holder, period, start) DO UPDATE SET pictures = pictures + excluded.pictures"""
TOTAL = """INSERT INTO totals VALUES (?, ?, ?)
    ON CONFLICT (holder) DO UPDATE SET pictures = pictures + excluded.pictures, last = excluded.last"""
LIST = """SELECT keys.*, coalesce(totals.pictures, 0) AS pictures, totals.last FROM keys
    LEFT JOIN totals ON totals.holder = keys.id ORDER BY created, id"""


@dataclass(frozen=True)
class Caller:
    """Who asks; without keys everybody is the person at this computer. The limits count pictures; 0: none."""

    id: str = "local"
    name: str = "local"
    role: str = "admin"
    per_hour: int = 0
    per_day: int = 0


@dataclass(frozen=True)
class Key:
    """A key as it is listed, without its secret."""

    caller: Caller
    created: str
    revoked: str | None
    pictures: int  # captioned in all
    last: str | None  # time of its last request


class KeyStore:
    """The keys and what they used, in one database. Threads and processes may use it concurrently."""

    def __init__(self, path: str | Path, *, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = Database(path, LAYOUT), clock

    def create(self, name: str, *, role: str = "caption", per_hour: int = 0, per_day: int = 0) -> str:
        """A new key, which cannot be read again afterwards."""
        if not (name and name.isprintable() and len(name) <= LONGEST_NAME):
            raise CaptioningError(f"A key's name has 1 to {LONGEST_NAME} printable characters; give another one.")
        if role not in ROLES:
            raise CaptioningError(f"There is no role {role}; choose {' or '.join(ROLES)}.")
        if per_hour < 0 or per_day < 0:
            raise CaptioningError("A quota is 0, which sets no limit, or more; give another number.")
        key_id, secret, salt = secrets.token_hex(6), secrets.token_urlsafe(32), secrets.token_bytes(16)
        row = key_id, name, role, salt, _hash(salt, secret), per_hour, per_day, self._now()
        with self._database.writing() as database:
            if database.execute("SELECT 1 FROM keys WHERE name = ? AND revoked IS NULL", (name,)).fetchone():
                raise CaptioningError(f"There is a key {name} already; revoke it, or give another name.")
            database.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)", row)
        return f"{PREFIX}_{key_id}_{secret}"

    def list(self) -> Sequence[Key]:
        """All keys, oldest first."""
        with self._database.connected() as database:
            rows = database.execute(LIST).fetchall()
        return [Key(_caller(row), row["created"], row["revoked"], row["pictures"], row["last"]) for row in rows]

    def revoke(self, name: str) -> None:
        """Ends the key of this name or id at once."""
        change = "UPDATE keys SET revoked = ? WHERE (name = ? OR id = ?) AND revoked IS NULL"
        with self._database.writing() as database:
            if not database.execute(change, (self._now(), name, name)).rowcount:
                raise CaptioningError(f"No key in use is called {name}; captioning keys list shows them.")

    def find(self, text: str) -> Caller | None:
        """Whose key this is; None where it is nobody's, or was revoked."""
        prefix, _, rest = text.partition("_")
        key_id, _, secret = rest.partition("_")
        with self._database.connected() as database:
            row = database.execute("SELECT * FROM keys WHERE id = ? AND revoked IS NULL", (key_id,)).fetchone()
        salt, expected = (row["salt"], row["hash"]) if row else (b"", b"")  # as much work for an unknown key
        is_right = hmac.compare_digest(_hash(salt, secret), expected)
        return _caller(row) if row and prefix == PREFIX and is_right else None

    def check(self, caller: Caller) -> None:
        """Refuses who has used up a quota, before anything is read."""
        now = int(self._clock())
        with self._database.connected() as database:
            for name, limit, start in _limits(caller, now):
                if limit and database.execute(USED, (caller.id, name, start)).fetchone()[0] >= limit:
                    raise _spent(name, limit, start, now)

    def charge(self, caller: Caller, pictures: int) -> None:
        """Counts pictures against both quotas, or refuses all of them; exact however many ask at once."""
        now = int(self._clock())
        with self._database.writing(is_durable=False) as database:
            for name, limit, start in _limits(caller, now):
                if limit and database.execute(USED, (caller.id, name, start)).fetchone()[0] + pictures > limit:
                    raise _spent(name, limit, start, now)
                database.execute(ADD, (caller.id, name, start, pictures))
                old = caller.id, name, start - PERIODS[name]
                database.execute("DELETE FROM usage WHERE holder = ? AND period = ? AND start < ?", old)
            database.execute(TOTAL, (caller.id, pictures, self._now()))

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="seconds")


def _caller(row: "dict[str, int | str]") -> Caller:
    return Caller(**{name: row[name] for name in ("id", "name", "role", "per_hour", "per_day")})  # type: ignore[arg-type]


def _hash(salt: bytes, secret: str) -> bytes:
    return hashlib.sha256(salt + secret.encode()).digest()


def _limits(caller: Caller, now: int) -> list[tuple[str, int, int]]:
    limits = {"hour": caller.per_hour, "day": caller.per_day}
    return [(name, limits[name], now - now % seconds) for name, seconds in PERIODS.items()]


def _spent(period: str, limit: int, start: int, now: int) -> Problem:
    wait = start + PERIODS[period] - now
    return Problem(429, "quota", f"The quota of {limit} pictures per {period} does not suffice; wait {wait} s.", wait)
