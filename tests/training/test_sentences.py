"""Sentences without images: where they stand among the examples, and what is refused."""

import numpy as np
import pytest

from captioning import cli
from captioning.errors import DataError
from captioning.training.batches import Batches, Examples, epoch_order
from captioning.training.sentences import read_sentences, with_sentences

LENGTH, CAPTIONS = 4, 2
SENTENCES = [f"{number}" for number in range(1, 12)]


def encode(sentences):
    """Every sentence is a number here, its only word."""
    return np.array([[1, int(sentence), 2, 0, 0] for sentence in sentences], "int32")


@pytest.fixture
def examples():
    grids = np.arange(4 * 3 * 2, dtype="float16").reshape(4, 3, 2)
    return Examples(grids, np.array([[0, 1], [2, 3]]), [encode(["90", "91"]), encode(["92", "93"])], ["a.jpg", "b.jpg"])


@pytest.fixture
def extended(examples):
    return with_sentences(examples, SENTENCES, encode, captions_per_image=CAPTIONS, seed=1)


def batches_of(examples, epoch):
    order = epoch_order(0, epoch)
    found = Batches(examples, batch_size=2, captions_per_image=CAPTIONS, order=order)
    return [(found[index], found.numbers(index)) for index in range(len(found))]


def test_images_keep_their_grids_and_captions(examples, extended):
    assert len(extended) == 2 * len(examples)
    assert list(extended.names) == ["a.jpg", "b.jpg", "the sentences", "the sentences"]
    for (inputs, _, _), numbers in batches_of(extended, 0):
        for grid, tokens, number in zip(inputs["features"], inputs["tokens"], numbers, strict=True):
            if number < 2:
                assert any(np.array_equal(grid, examples.array[row]) for row in examples.rows[number])
                assert set(tokens[:, 1]) == set(examples.tokens[number][:, 1])


def test_sentences_have_the_average_grid_of_the_images(examples, extended):
    average = examples.array[[0, 2]].mean(axis=0)
    for (inputs, _, _), numbers in batches_of(extended, 0):
        for grid, number in zip(inputs["features"], numbers, strict=True):
            assert number < 2 or np.array_equal(grid, average)


def test_epochs_draw_other_sentences_and_all_in_the_end(extended):
    drawn = [
        {int(word) for (inputs, _, _), _ in batches_of(extended, epoch) for word in inputs["tokens"][..., 1].ravel()}
        for epoch in range(30)
    ]
    assert all(len(words) == 4 + 4 for words in drawn)
    assert len(set(map(frozenset, drawn))) > 5
    assert set.union(*drawn) == {90, 91, 92, 93, *map(int, SENTENCES)}


def test_a_file_is_read_without_blank_lines_and_repeats(tmp_path):
    path = tmp_path / "sentences.txt"
    path.write_text("a dog runs\n\n  a cat sits \na dog runs\n", encoding="utf-8")
    assert read_sentences(str(path)) == ["a dog runs", "a cat sits"]
    assert read_sentences("") == []


@pytest.mark.parametrize(
    ("content", "why"), [(b"", "is empty"), (b"\xff\xfe\x00", "not UTF-8"), (None, "No such file")]
)
def test_what_is_no_text_is_refused(tmp_path, content, why):
    path = tmp_path / "sentences.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=rf"^--sentences .*{why}.*\.$"):
        read_sentences(str(path))


def test_they_need_epochs_on_a_frozen_encoder(tmp_path, capsys):
    path = tmp_path / "sentences.txt"
    path.write_text("a dog runs\n")
    flags = [
        "train",
        "--dataset",
        "scenes",
        "--encoder",
        "tiny",
        "--sentences",
        str(path),
        "--artifacts",
        str(tmp_path),
    ]
    assert cli.main(flags) == 2
    assert "--sentences belongs to epochs on a frozen encoder" in capsys.readouterr().err
