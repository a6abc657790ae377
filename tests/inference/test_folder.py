"""Every image is captioned once, in batches, while the next are read; a stop loses nothing and repeats nothing."""

import dataclasses
import functools
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from captioning.errors import CaptioningError, DataError, ImageError
from captioning.inference import folder as album
from captioning.inference.caption import Caption
from captioning.inference.confidence import Calibration
from captioning.inference.folder import (
    LISTED,
    Summary,
    caption_folder,
    caption_images,
    find_images_in,
    read_ahead,
    require_confidence,
)
from captioning.inference.left_out import LeftOut
from captioning.inference.writers import OutputOptions, open_writer
from captioning.options import DecodeOptions

SEARCH = DecodeOptions()


def said(text):
    return Caption(text, (), -0.5)


class Parrot:
    """Says the number that an image's first pixel holds; `patience` calls are answered before it stops."""

    image_size = 16

    def __init__(self, patience=10**6):
        self.patience, self.seen = patience, []

    def features(self, pixels, options):
        assert all(picture.shape == (16, 16, 3) and picture.dtype == np.uint8 for picture in pixels)
        return np.stack(pixels)

    def caption_features(self, features, options):
        self.patience -= 1
        if self.patience < 0:
            raise KeyboardInterrupt
        self.seen.append(len(features))
        return [said(f"number {picture[0, 0, 0]}") for picture in features]


class CaptionerPool(dict):
    """A book in memory."""

    def add(self, captions):
        self.update(captions)
        return {}

    def refusal(self, image):
        return ""


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch):
    monkeypatch.setattr(album, "BATCH", 4)


@pytest.fixture
def images(tmp_path):
    """Eleven pictures, the fourth of which cannot be read."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(11):
        Image.new("RGB", (20, 24), (10 * number, 0, 0)).save(folder / f"{number:02}.png")
    (folder / "03.png").write_bytes(b"")
    return sorted(folder.iterdir())


def by(captioner):
    return functools.partial(caption_images, captioner, search=SEARCH)


def texts(book):
    return {image.stem: str(caption) for image, caption in book.items()}


def test_folders_hold_their_images_and_none_comes_twice(images):
    folder = images[0].parent
    assert find_images_in([images[5], folder]) == [images[5], *images[:5], *images[6:]]
    with pytest.raises(DataError, match="holds no image"):
        find_images_in([folder, folder.parent / "none", _empty(folder.parent / "empty")])


def _empty(folder):
    folder.mkdir()
    return folder


def test_every_image_is_captioned_and_the_unreadable_one_is_named(images):
    book = CaptionerPool()
    summary = caption_folder(by(Parrot()), images, book)
    assert texts(book) == {f"{number:02}": f"number {10 * number}" for number in range(11) if number != 3}
    assert summary.problems == [f"{images[3]} is empty; copy or download it again."]
    assert (summary.written, summary.unknown, summary.not_sure, summary.known) == (10, 10, 0, 0)


def test_batches_hold_readable_images_alone(images):
    parrot = Parrot()
    found = list(caption_images(parrot, images, SEARCH))
    assert parrot.seen == [4, 4, 2]
    assert [image for batch in found for image in batch] == images
    assert isinstance(found[0][images[3]], ImageError)


def test_what_is_in_the_book_is_not_captioned_again(images):
    parrot, book = Parrot(), CaptionerPool({image: said("known") for image in images[4:]})
    caption_folder(by(parrot), images, book)
    assert parrot.seen == [3]
    assert texts(book)["07"] == "known"


def test_the_next_images_are_read_while_the_captioner_works(images, monkeypatch):
    read, more = [], threading.Event()

    def watched(image, size):
        read.append(image)
        if len(read) > album.BATCH + 1:
            more.set()
        return np.zeros((size, size, 3), "uint8")

    class Waiting(Parrot):
        def features(self, pixels, options):
            assert more.wait(10), "nothing is read meanwhile"
            return super().features(pixels, options)

    monkeypatch.setattr(album, "read_image", watched)
    assert len(list(caption_images(Waiting(), images, SEARCH))) == 3


def test_the_next_batch_is_encoded_while_the_captioner_searches(images):
    encoded = threading.Semaphore(0)

    class Overlapping(Parrot):
        def features(self, pixels, options):
            encoded.release()
            return super().features(pixels, options)

        def caption_features(self, features, options):
            assert encoded.acquire(timeout=10)
            if not self.seen:
                assert encoded.acquire(timeout=10), "the next batch is not encoded meanwhile"
                encoded.release()
            return super().caption_features(features, options)

    assert len(list(caption_images(Overlapping(), images, SEARCH))) == 3


def test_reading_does_not_run_away_from_the_captioner(images, monkeypatch):
    read = []
    monkeypatch.setattr(album, "read_image", lambda image, size: read.append(image) or np.zeros((size, size, 3)))
    taken = read_ahead(images * 20, 16)
    for number, _ in enumerate(taken):
        assert len(read) <= number + 2 * album.BATCH + 1
    assert len(read) == 220


def test_a_stop_does_not_wait_for_what_is_still_to_be_read(images, monkeypatch):
    read = []

    def slow(image, size):
        time.sleep(0.02)
        read.append(image)
        return np.zeros((size, size, 3), "uint8")

    monkeypatch.setattr(album, "BATCH", 40)
    monkeypatch.setattr(album, "read_image", slow)
    with pytest.raises(KeyboardInterrupt):
        list(caption_images(Parrot(patience=0), images * 20, SEARCH))
    time.sleep(0.1)
    assert len(read) < 140  # two batches were taken, 81 more were asked for


@pytest.mark.parametrize("kind", ["csv", "txt", "jsonl", "json"])
def test_an_interrupted_album_ends_as_if_it_had_not_been(images, tmp_path, kind):
    at_once, stopped = tmp_path / f"at-once.{kind}", tmp_path / f"stopped.{kind}"
    _write(Parrot(), images, at_once)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            _write(Parrot(patience=1), images, stopped)
    last = Parrot()
    _write(last, images, stopped)
    assert stopped.read_bytes() == at_once.read_bytes()
    assert last.seen == [2]
    assert sorted(path.name for path in tmp_path.glob("stopped*")) == [stopped.name]


def _write(captioner, images, output, **more):
    options = OutputOptions(output=output, **more)
    with open_writer(options, several=False) as writer:
        return caption_folder(by(captioner), images, writer, LeftOut(options, writer))


class Doubtful(Parrot):
    """As sure of a picture as it is red: 0 to 100 %."""

    def caption_features(self, features, options):
        said = super().caption_features(features, options)
        return [dataclasses.replace(each, confidence=int(each.text.split()[1]) / 100) for each in said]


def test_captions_of_too_low_a_confidence_are_left_out_and_counted(images, tmp_path):
    output = tmp_path / "captions.csv"
    summary = _write(Doubtful(), images, output, min_confidence=0.3)
    assert output.read_text().count("number") == 7
    assert (summary.written, summary.not_sure, len(summary.left_out)) == (7, 3, 3)
    first, *lines, last = summary.text(f" in {output}", tmp_path / "captions-left-out.csv").splitlines()
    assert first == f"7 captions in {output}, 3 not sure, 4 left out:"
    assert lines[0] == f"  {images[3]} is empty; copy or download it again."
    assert lines[1:] == [f"  {images[number]}: 0.{number}0, number {10 * number}" for number in range(3)]
    assert last == f"  {tmp_path}/captions-left-out.csv lists these too."


def test_what_was_left_out_is_not_captioned_again_until_the_threshold_is_lowered(images, tmp_path):
    output = tmp_path / "captions.csv"
    with pytest.raises(KeyboardInterrupt):
        _write(Doubtful(patience=1), images, output, min_confidence=0.3)
    rest = Doubtful()
    assert len(_write(rest, images, output, min_confidence=0.3).left_out) == 3
    assert sum(rest.seen) == 6
    lower = Doubtful()
    summary = _write(lower, images, output, min_confidence=0.2)
    assert lower.seen == [1]
    assert (summary.known, summary.written, len(summary.left_out)) == (7, 1, 2)
    assert summary.text(" in c.csv").startswith("1 new caption in c.csv, 7 there already, 1 not sure, 3 left out:\n")
    assert (tmp_path / "captions-left-out.csv").read_text().count("number") == 2


@pytest.mark.parametrize(
    ("summary", "sentence"),
    [
        (Summary(written=41, not_sure=29), "41 captions in c.csv, 29 not sure."),
        (Summary(written=1), "1 caption in c.csv."),
        (Summary(written=3, unknown=3), "3 captions in c.csv, confidence unknown."),
        (Summary(written=3, not_sure=1, unfamiliar=2), "3 captions in c.csv, 1 not sure, 2 of unfamiliar pictures."),
        (Summary(written=3, unknown=2), "3 captions in c.csv, 2 with confidence unknown."),
        (Summary(known=1200), "0 new captions in c.csv, 1,200 there already."),
    ],
)
def test_the_summary_is_one_sentence(summary, sentence):
    assert summary.text(" in c.csv") == sentence


def test_a_long_list_is_cut_where_a_file_has_all_of_it(tmp_path):
    summary = Summary(left_out=[f"{number}.png: 0.10, a dog" for number in range(LISTED + 5)])
    lines = summary.text(" beside the images", tmp_path / "left-out.csv").splitlines()
    assert lines[0] == f"0 captions beside the images, {LISTED + 5} left out:"
    rest = f"  ... and 5 more; {tmp_path}/left-out.csv lists all."
    assert lines[LISTED:] == [f"  {LISTED - 1}.png: 0.10, a dog", rest]
    assert len(summary.text().splitlines()) == LISTED + 6


def test_a_threshold_needs_captions_whose_confidence_is_known():
    captioner = SimpleNamespace(calibration=None)
    require_confidence(captioner, SEARCH, 0)
    require_confidence(SimpleNamespace(calibration=Calibration(0, 1, 1)), SEARCH, 0.5)
    with pytest.raises(CaptioningError, match=r"never calibrated; use --min-confidence 0 to write them all\.$"):
        require_confidence(captioner, SEARCH, 0.5)
    with pytest.raises(CaptioningError, match="but --strategy greedy gives none"):
        require_confidence(captioner, DecodeOptions(strategy="greedy"), 0.5)


def test_interrupted_sidecars_are_gone_on_with(images, tmp_path):
    def write(captioner):
        with open_writer(OutputOptions(sidecar=True), several=False) as book:
            caption_folder(by(captioner), images, book)

    with pytest.raises(KeyboardInterrupt):
        write(Parrot(patience=2))
    rest = Parrot()
    write(rest)
    assert rest.seen == [2]
    assert images[10].with_suffix(".txt").read_text() == "number 100\n"


def test_progress_is_for_terminals_alone(images, monkeypatch, capsys):
    caption_folder(by(Parrot()), images, CaptionerPool())
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    caption_folder(by(Parrot()), images, CaptionerPool({image: said("known") for image in images[:5]}))
    told = capsys.readouterr().err
    assert "11/11" in told
    assert "image/s" in told
