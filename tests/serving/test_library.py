"""The database of folders: what a person wrote stays, what is searched is found, every step can be taken back."""

import os

import pytest
from PIL import Image

from captioning.errors import CaptioningError, DataError, StorageError
from captioning.serving.library import Library, View


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos" / "old").mkdir(parents=True)
    for name in ("beach.jpg", "dog.png", "old/two dogs.jpg"):
        Image.new("RGB", (40, 30), (len(name), 90, 40)).save(tmp_path / "photos" / name)
    return tmp_path / "photos"


@pytest.fixture
def library(tmp_path):
    return Library(tmp_path / "folders.db")


@pytest.fixture
def opened(library, folder):
    """The number of the folder, with a caption of each picture."""
    number = library.open_folder(folder)
    told = [("a man on a beach", 0.9, "sure"), ("a dog runs", 0.4, "not sure"), ("eine Straße", 0.7, "unfamiliar")]
    rows = zip(library.waiting(number, 9), told, strict=True)
    library.update(
        [{"id": row["id"], "caption": text, "confidence": sure, "verdict": kind} for row, (text, sure, kind) in rows]
    )
    return number


def texts(library, number, **view):
    return [row["text"] for row in library.rows(number, View(**view))[1]]


def names(library, number, **view):
    return [row["name"] for row in library.rows(number, View(**view))[1]]


def test_orders_and_filters(library, opened):
    assert names(library, opened) == ["beach.jpg", "dog.png", "old/two dogs.jpg"]
    assert names(library, opened, order="least") == ["old/two dogs.jpg", "dog.png", "beach.jpg"]
    assert names(library, opened, order="most") == ["beach.jpg", "dog.png", "old/two dogs.jpg"]
    assert names(library, opened, show="unsure") == ["dog.png"]
    assert names(library, opened, show="unfamiliar") == ["old/two dogs.jpg"]
    assert library.rows(opened, View(), start=1, count=1)[0] == 3
    with pytest.raises(DataError, match="no order"):
        View(order="name; DROP TABLE picture")


def test_search_finds_captions_corrections_and_names(library, opened):
    assert names(library, opened, words="beaches") == ["beach.jpg"]
    assert names(library, opened, words="dog") == ["dog.png", "old/two dogs.jpg"]
    assert names(library, opened, words="strasse") == []
    assert names(library, opened, words="straß") == ["old/two dogs.jpg"]
    assert names(library, opened, words='" OR * ( NEAR') == []
    first = library.rows(opened, View())[1][0]
    library.correct(opened, first["id"], "一只狗在海滩上", first["text"])
    assert names(library, opened, words="海滩") == ["beach.jpg"]
    assert names(library, opened, words="man") == []


def test_each_step_can_be_taken_back(library, opened):
    before = library.rows(opened, View())[1]
    library.correct(opened, before[0]["id"], "  a woman   on a beach ", before[0]["text"])
    assert library.accept(opened, [before[1]["id"]]) == 1
    assert library.replace(opened, View(), "a", "the") == 2
    assert texts(library, opened) == ["the woman on the beach", "the dog runs", "eine Straße"]
    assert library.replace(opened, View(words="dog"), "run", "walk") == 0  # whole words
    assert [library.undo(opened) for _ in range(4)] == [2, 1, 1, 0]
    assert library.rows(opened, View())[1] == before


def test_what_another_tab_wrote_is_not_lost(library, opened):
    row = library.rows(opened, View())[1][0]
    library.correct(opened, row["id"], "written in one tab", row["text"])
    with pytest.raises(DataError, match="changed elsewhere"):
        library.correct(opened, row["id"], "written in the other", row["text"])
    assert texts(library, opened)[0] == "written in one tab"


@pytest.mark.parametrize("text", ["x" * 501, "a\0b", "two\nlines"])
def test_text_that_is_no_caption_is_refused(library, opened, text):
    row = library.rows(opened, View())[1][0]
    with pytest.raises(DataError, match="caption"):
        library.correct(opened, row["id"], text, row["text"])


def test_a_second_visit_goes_on_and_changed_pictures_are_captioned_anew(library, opened, folder):
    rows = library.rows(opened, View())[1]
    library.correct(opened, rows[1]["id"], "my dog", rows[1]["text"])
    Image.new("RGB", (50, 50)).save(folder / "beach.jpg")
    Image.new("RGB", (50, 50)).save(folder / "dog.png")
    (folder / "old" / "two dogs.jpg").rename(folder.parent / "away.jpg")
    again = Library(library.path)
    assert again.open_folder(folder) == opened
    assert names(again, opened) == ["beach.jpg", "dog.png"]
    assert texts(again, opened) == ["", "my dog"]
    assert [row["name"] for row in again.waiting(opened, 9)] == ["beach.jpg", "dog.png"]
    (folder.parent / "away.jpg").rename(folder / "old" / "two dogs.jpg")
    again.open_folder(folder)
    assert texts(again, opened)[2] == "eine Straße"


def test_folders_that_cannot_be_opened_are_told(library, folder):
    empty = folder / "old" / "empty"
    empty.mkdir()
    for path, says in (
        (folder / "nowhere", "does not exist"),
        (folder / "dog.png", "is a file"),
        (empty, "holds no picture"),
        (folder / "a\0b", "cannot be read"),
    ):
        with pytest.raises(DataError, match=says):
            library.open_folder(path)
    with pytest.raises(DataError, match="no whole path"):
        library.open_folder(folder.relative_to(folder.parent))
    assert library.folders() == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_told(library, folder):
    folder.chmod(0)
    try:
        with pytest.raises(DataError, match="permission"):
            library.open_folder(folder)
    finally:
        folder.chmod(0o755)


def test_another_programs_file_is_left_alone(tmp_path, library, opened):
    (tmp_path / "other.db").write_text("no database at all, but long enough to be read as a header of one " * 20)
    with pytest.raises(StorageError, match="not a database"):
        Library(tmp_path / "other.db")
    with pytest.raises(CaptioningError, match="no such picture"):
        library.picture(opened, 10**6)
