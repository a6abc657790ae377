"""Keys: shown once, hashed, revoked at once, and a quota of which exactly N pictures pass however many ask."""

import re
import sqlite3
from contextlib import closing

import pytest

from captioning.cli import main
from captioning.errors import CaptioningError
from captioning.serving.keys import Caller, KeyStore
from captioning.serving.problems import Problem
from tests.serving.service import many


@pytest.fixture
def clock():
    """A time that tests set: 1,000 seconds into an hour and a day."""
    return [86_400 * 20_000 + 1000]


@pytest.fixture
def store(tmp_path, clock):
    return KeyStore(tmp_path / "keys.db", clock=lambda: clock[0])


def test_a_key_is_found_until_it_is_revoked(store):
    key = store.create("blog", role="admin", per_hour=5, per_day=9)
    caller = store.find(key)
    assert (caller.name, caller.role, caller.per_hour, caller.per_day) == ("blog", "admin", 5, 9)
    store.revoke("blog")
    assert store.find(key) is None
    with pytest.raises(CaptioningError, match="No key in use"):
        store.revoke("blog")
    assert store.find(store.create("blog")).role == "caption"


def test_forged_keys_are_nobodys(store):
    key = store.create("blog")
    other = store.create("other")
    prefix, number, secret = key.split("_", 2)
    for text in (
        key[:-1],
        key + "x",
        f"{prefix}_{number}_",
        f"{prefix}_{other.split('_')[1]}_{secret}",
        "ck__",
        "ck",
        "",
    ):
        assert store.find(text) is None
    assert store.find(f"xx_{number}_{secret}") is None


def test_the_database_does_not_hold_the_key(store, tmp_path):
    secret = store.create("blog").split("_", 2)[2]
    assert secret.encode() not in (tmp_path / "keys.db").read_bytes()
    one, other = store.create("one"), store.create("two")
    with closing(sqlite3.connect(tmp_path / "keys.db")) as database:
        salts = {row[0] for row in database.execute("SELECT salt FROM keys")}
    assert len(salts) == 3
    assert one != other


def test_exactly_so_many_pass_at_once(store):
    caller = store.find(store.create("blog", per_hour=25))

    def ask(_):
        try:
            return store.charge(caller, 1)
        except Problem as problem:
            return problem.status, problem.retry_after

    found = many(40, ask)
    assert (found.count(None), found.count((429, 2600))) == (25, 15)
    assert store.list()[0].pictures == 25


def test_a_request_is_counted_whole_or_not_at_all(store):
    caller = Caller("blog", "blog", "caption", per_hour=5)
    store.charge(caller, 3)
    with pytest.raises(Problem):
        store.charge(caller, 3)
    store.charge(caller, 2)
    with pytest.raises(Problem):
        store.check(caller)


def test_quotas_begin_again_with_the_hour_and_the_day(store, clock):
    caller = Caller("blog", "blog", "caption", per_hour=2, per_day=3)
    store.charge(caller, 2)
    with pytest.raises(Problem, match="per hour"):
        store.charge(caller, 1)
    clock[0] += 3600
    store.charge(caller, 1)
    with pytest.raises(Problem, match="per day") as refused:
        store.charge(caller, 1)
    assert refused.value.retry_after == 86_400 - 4600
    clock[0] += 86_400
    store.charge(caller, 2)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [({"name": ""}, "name"), ({"name": "a\nb"}, "name"), ({"role": "owner"}, "role"), ({"per_hour": -1}, "quota")],
)
def test_what_no_key_can_be_is_refused(store, wrong, told):
    with pytest.raises(CaptioningError, match=told):
        store.create(**{"name": "blog"} | wrong)
    store.create("taken")
    with pytest.raises(CaptioningError, match="already"):
        store.create("taken")


def test_the_command_shows_a_key_once(tmp_path, capsys):
    def said(*arguments):
        status = main(["keys", *arguments, "--state", str(tmp_path)])
        return status, capsys.readouterr().out

    status, key = said("create", "blog", "--per-day", "500")
    assert (status, bool(re.fullmatch(r"ck_[0-9a-f]{12}_[\w-]{43}\n", key))) == (0, True)
    listed = said("list")[1]
    assert "blog\tcaption\t-\t500\t0\tnever\tin use" in listed
    assert key.strip().split("_", 2)[2] not in listed
    assert said("revoke", "blog") == (0, "blog is revoked.\n")
    assert "revoked 20" in said("list")[1]
    assert main(["keys", "revoke", "--state", str(tmp_path)]) == 2
