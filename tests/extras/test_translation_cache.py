"""Translations are found again; a damaged file is begun anew, and one that cannot be used is said and left alone."""

import os
import sqlite3
import subprocess
import sys

import pytest

from captioning.extras import translation_cache
from captioning.extras.translation_cache import TranslationCache, cache_folder


@pytest.fixture
def told():
    return []


@pytest.fixture
def opened(tmp_path, told):
    def opening(model="marian", language="vi"):
        return TranslationCache(model, language, tell=told.append, path=tmp_path / "kept" / "translations.db")

    return opening


def test_a_translation_is_found_by_text_language_and_model(opened, told):
    opened().add({"a dog": "con chó", "it's 100 %": "x"})
    assert opened().find(["a dog", "a cat", "it's 100 %"]) == {"a dog": "con chó", "it's 100 %": "x"}
    assert opened("marian", "fr").find(["a dog"]) == {}
    assert opened("another").find(["a dog"]) == {}
    assert told == []


def test_many_texts_are_found_in_one_go(opened):
    texts = {f"text {number}": str(number) for number in range(1200)}
    opened().add(texts)
    assert opened().find(list(texts)) == texts


def test_the_oldest_are_dropped(opened, monkeypatch):
    monkeypatch.setattr(translation_cache, "MOST", 3)
    cache = opened()
    for number in range(5):
        cache.add({f"text {number}": "x"})
    assert list(cache.find([f"text {number}" for number in range(5)])) == ["text 2", "text 3", "text 4"]


def test_it_lies_in_the_cache_folder_of_the_person(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "captioning"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "captioning"


@pytest.mark.parametrize("damage", ["text", "middle", "table"])
def test_a_damaged_file_is_named_and_begun_anew(opened, told, damage):
    cache = opened()
    cache.add({f"a text that takes some room {number}": "x" * 50 for number in range(500)})
    if damage == "text":
        cache.path.write_bytes(b"no database at all" * 100)
    elif damage == "middle":
        with open(cache.path, "r+b") as file:
            file.seek(4096)
            file.write(os.urandom(cache.path.stat().st_size - 4096))
    else:
        with sqlite3.connect(cache.path) as database:
            database.execute("DROP TABLE translations")
        database.close()
    fresh = opened()
    assert fresh.find(["a dog"]) == {}
    fresh.add({"a dog": "con chó"})
    assert opened().find(["a dog"]) == {"a dog": "con chó"}
    assert len(told) == 1
    assert told[0].startswith(f"{cache.path} was damaged and is begun anew")


def test_a_file_of_another_program_is_left_alone(opened, told):
    path = opened().path
    path.parent.mkdir()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE theirs (x)")
    database.close()
    cache = opened()
    cache.add({"a dog": "con chó"})
    assert cache.find(["a dog"]) == {}
    assert len(told) == 1
    assert "another program's database" in told[0]
    assert sqlite3.connect(path).execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


def test_a_folder_that_cannot_be_made_is_told_once(tmp_path, told):
    (tmp_path / "file").write_text("")
    cache = TranslationCache("m", "vi", tell=told.append, path=tmp_path / "file" / "translations.db")
    cache.add({"a": "b"})
    assert cache.find(["a"]) == {}
    assert len(told) == 1
    assert told[0].startswith("Translations are not kept: ")


def test_several_processes_may_use_it_at_once(opened, told):
    path = opened().path
    script = (
        "import sys; from pathlib import Path; from captioning.extras.translation_cache import TranslationCache\n"
        f"cache = TranslationCache('m', 'vi', tell=sys.exit, path=Path({str(path)!r}))\n"
        "for number in range(40): cache.add({f'{sys.argv[1]} {number}': 'x'})"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, name]) for name in ("one", "two", "three")]
    assert [each.wait() for each in running] == [0, 0, 0]
    texts = [f"{name} {number}" for name in ("one", "two", "three") for number in range(40)]
    assert len(opened("m").find(texts)) == 120
