"""The report names what is wrong with the data, all of it, and nothing else."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioning.data import check
from captioning.data.check import LISTED, clean, inspect
from captioning.data.dataset import Dataset, read_dataset
from captioning.data.formats import Problem
from captioning.data.scenes.dataset import draw_scene
from captioning.errors import DataError


def picture(seed: int) -> Image.Image:
    cells = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    return Image.fromarray(cells).resize((120, 90), Image.Resampling.BICUBIC)


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    """Six sound images: four to train on, one for dev, one for test, with two captions each."""
    splits: dict[str, dict[Path, list[str]]] = {"train": {}, "dev": {}, "test": {}}
    for number, split in enumerate(["train"] * 4 + ["dev", "test"]):
        path = tmp_path / f"{number}.png"
        picture(number).save(path)
        splits[split][path] = [f"A dog runs {'very ' * number}fast .", f"Dog number {number} runs ."]
    return Dataset("dogs", splits, (), "a table with a header")


def image(dataset: Dataset, number: int) -> Path:
    return next(path for some in dataset.splits.values() for path in some if path.stem == str(number))


def report_of(dataset: Dataset, **options) -> check.Report:
    return inspect(dataset, progress=False, **options)


def test_sound_data_has_a_short_report(dataset, tmp_path):
    report = report_of(dataset, cache=tmp_path / "cache")
    assert report.images == {"train": 4, "dev": 1, "test": 1}
    assert report.captions == {"train": 8, "dev": 2, "test": 2}
    assert report.captions_per_image == (2, 2.0, 2)
    assert report.words_per_caption == (4, 4, 9, 9)
    assert report.vocabulary == {1: 10, 2: 6, 3: 6, 5: 3, 10: 0}
    assert "Nothing wrong was found." in report.text()
    assert len(report.text().splitlines()) <= 12
    assert (tmp_path / "cache").is_dir()


def test_the_vocabulary_is_that_of_the_training_captions(dataset):
    dataset.splits["test"][image(dataset, 5)].append("A zebra appears .")
    assert report_of(dataset).vocabulary[1] == 10


def test_unreadable_images_are_named_and_cleaned_away(dataset):
    damaged, foreign = image(dataset, 1), image(dataset, 4)
    damaged.write_bytes(damaged.read_bytes()[:700])
    foreign.write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    report = report_of(dataset)
    assert set(report.unreadable) == {damaged, foreign}
    assert "images that cannot be read: 2" in report.text()
    assert "export it as JPEG" in report.text()
    cleaned = clean(dataset, report)
    assert {path.name for some in cleaned.splits.values() for path in some} == {"0.png", "2.png", "3.png", "5.png"}
    assert {problem.where for problem in cleaned.problems} == {"1.png", "4.png"}
    assert not report_of(cleaned).unreadable


@pytest.mark.parametrize("damaged", [1, 2])
def test_data_is_refused_where_a_larger_share_than_allowed_is_unreadable(dataset, damaged):
    for number in range(damaged):
        image(dataset, number).write_bytes(b"")
    if damaged == 1:
        assert len(clean(dataset, report_of(dataset), 1 / 6).problems) == 1
    else:
        with pytest.raises(DataError, match=r"2 of the 6 images .* first .*empty.*--max-unreadable"):
            clean(dataset, report_of(dataset), 1 / 6)


def test_data_without_one_readable_image_is_refused(dataset):
    for number in range(6):
        image(dataset, number).write_bytes(b"")
    with pytest.raises(DataError, match=r"none of the 6 images can be read; first .*empty"):
        clean(dataset, report_of(dataset))


def test_identical_and_nearly_identical_images_across_splits_are_leaks(dataset):
    image(dataset, 4).write_bytes(image(dataset, 0).read_bytes())
    picture(1).resize((240, 180)).save(image(dataset, 5), "JPEG", quality=90)
    image(dataset, 3).write_bytes(image(dataset, 2).read_bytes())  # twins within a split leak nothing
    first, second = report_of(dataset).leaks
    assert (first.image, first.split, first.twin, first.twin_split) == (
        image(dataset, 4),
        "dev",
        image(dataset, 0),
        "train",
    )
    assert first.same_file
    assert (second.image, second.split, second.twin, second.twin_split) == (
        *(image(dataset, 5), "test"),
        *(image(dataset, 1), "train"),
    )
    assert not second.same_file
    text = report_of(dataset).text()
    assert "4.png in dev  the same file as 0.png in train" in text
    assert "5.png in test  the same picture as 1.png in train" in text


def test_dev_and_test_are_compared_with_each_other(dataset):
    image(dataset, 5).write_bytes(image(dataset, 4).read_bytes())
    [leak] = report_of(dataset).leaks
    assert (leak.split, leak.twin_split) == ("test", "dev")


def test_plain_pictures_are_not_taken_for_each_other(dataset):
    for number, colour in ((0, "white"), (4, "grey"), (5, "blue")):
        plain = Image.new("RGB", (120, 90), colour)
        plain.paste("black", (50 + number, 40, 60, 50))
        plain.save(image(dataset, number))
    assert report_of(dataset).leaks == ()


def test_drawn_scenes_that_resemble_each_other_are_no_leaks(dataset):
    """A girl under a balloon in a room and another in another; two men there and two at the sea."""
    for number, scene in {0: (1, 523), 4: (3, 993), 1: (2, 194), 5: (3, 1125)}.items():
        draw_scene(*scene).image.save(image(dataset, number))
    assert report_of(dataset).leaks == ()


def test_an_image_is_named_once_however_many_copies_it_has(dataset):
    for number in range(6):
        picture(7).save(image(dataset, number), compress_level=number)
    dev, test = report_of(dataset).leaks
    assert (dev.image, dev.twin_split, test.image) == (image(dataset, 4), "train", image(dataset, 5))


def test_short_repeated_and_unspaced_captions_are_named(dataset):
    captions = dataset.splits["train"][image(dataset, 0)]
    captions += ["Dog .", "...", "A cat sleeps .", "A cat sleeps .", "一只狗在跑", "สุนัขกำลังวิ่ง อยู่ นะ"]
    report = report_of(dataset)
    assert report.short == (Problem("0.png", "Dog ."), Problem("0.png", "..."))
    assert report.repeated_for_image == (Problem("0.png", "A cat sleeps ."),)
    assert report.most_repeated == (("A cat sleeps .", 2),)
    assert report.without_spaces == 2
    for words in ("captions of fewer than 3 words: 2", "captions that come back", "in such scripts: 2"):
        assert words in report.text()


def test_a_word_or_two_shared_by_many_captions_is_no_alarm(dataset):
    captions = dataset.splits["train"][image(dataset, 0)]
    captions += [f"Dog number {number} jumps ." for number in range(200)] + ["Dog number 1 runs ."]
    assert report_of(dataset).most_repeated == (("Dog number 1 runs .", 2),)
    assert "come back" not in report_of(dataset).text()


def test_coverage_is_told_when_vectors_are_known(dataset):
    assert report_of(dataset).coverage is None
    coverage = report_of(dataset, known_words={"a", "dog", "runs", "fast", "number", "0", "1", "2", "3"}).coverage
    assert coverage.vocabulary == pytest.approx(9 / 10)
    assert coverage.running_words == pytest.approx(32 / 38)
    assert coverage.uncovered == ("very",)


def test_long_lists_are_cut_and_every_character_can_be_printed(dataset):
    problems = tuple(Problem(f"captions.txt:{line}", "half a \ud800 character") for line in range(1, 1_236))
    text = report_of(Dataset(dataset.name, dataset.splits, problems)).text()
    text.encode("utf-8")
    assert text.count("captions.txt:") == LISTED
    assert "left out of the data: 1,235" in text
    assert "and 1,225 more" in text


def test_splits_that_share_an_image_are_a_programming_mistake(dataset):
    dataset.splits["test"].update(dataset.splits["dev"])
    with pytest.raises(AssertionError, match="share"):
        report_of(dataset)


def test_a_folder_read_and_checked_leaves_only_sound_images(tmp_path):
    for number in range(8):
        picture(number).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text("A dog runs fast .\n")
    (tmp_path / "3.png").write_bytes(b"")
    dataset = read_dataset(tmp_path)
    assert sum(map(len, clean(dataset, report_of(dataset)).splits.values())) == 7


def test_a_name_cannot_command_the_terminal(tmp_path):
    hostile = tmp_path / "a\x1b[2J\nNothing wrong was found.\x9b\u202e.png"
    hostile.write_bytes(b"")
    picture(0).save(tmp_path / "b.png")
    text = report_of(
        Dataset("\x07dogs", {"train": {hostile: ["a dog runs"], tmp_path / "b.png": ["a dog runs"]}})
    ).text()
    assert r"a\x1b[2J\nNothing wrong was found.\x9b\u202e.png" in text
    assert all(line.isprintable() for line in text.splitlines())
    assert text.splitlines().count("Nothing wrong was found.") == 0
