"""What a bundle shows of itself is complete, refers to what there is, and holds what a reader asks for."""

import io
import re
from pathlib import Path

import pytest
from PIL import Image

from captioning.evaluation import model_card as card
from captioning.evaluation.model_card import contact_sheet_png, model_card
from captioning.evaluation.predictions import Prediction
from captioning.evaluation.scoring import score_card

RIGHT, WRONG = "a man on the grass", "a woman by the sea"


def predictions(count: int, wrong: str = WRONG) -> list[Prediction]:
    """Of every second image what is said is right."""
    return [
        Prediction(f"{number}.png", RIGHT, (RIGHT, f"{RIGHT} {number}") if number % 2 else (wrong, f"{wrong} {number}"))
        for number in range(count)
    ]


def written(*, splits=("dev", "test"), wrong: str = WRONG, **how) -> str:
    cards = {split: score_card(predictions(40, wrong), split=split, about={}) for split in splits}
    return model_card("mine", cards, ["a man", "a dog"], words=1234, images=5678, **how)


def test_a_card_has_scores_examples_words_and_limits():
    text = written()
    assert "dev split, 40 images" in text
    assert "\n- A man.\n- A dog.\n" in text
    assert "5,678 images of one kind, with 1,234 words" in text
    assert set(re.findall(r"\]\((.*?)\)", text)) == {"loss.png", "attention.png", "sheet.png"}


def test_a_card_without_data_refers_to_none():
    text = written(without_data=True)
    assert set(re.findall(r"\]\((.*?)\)", text)) == {"loss.png"}
    assert "predictions" not in text
    assert "sheet.png" not in text


@pytest.mark.parametrize(("splits", "split"), [(("dev", "test"), "test"), (("dev",), "dev")])
def test_words_said_more_and_less_often_stand_in_a_table(splits, split):
    text = written(splits=splits)
    assert "| | more often | less often |\n|---|---|---|\n| people | man 100% (50%) | woman 0% (50%) |\n\n" in text
    assert f"captions that contain it on the {split} split" in text


def test_where_no_word_is_told_of_there_is_no_table():
    text = written(wrong="a man by the sea")
    assert "|" not in text
    assert "Words used more, or less, often" not in text


@pytest.fixture
def shown(monkeypatch):
    """What is put on the contact sheet: captions and scores by section."""
    found = {}
    monkeypatch.setattr(card, "sheet_png", lambda sections: found.update(sections) or b"")
    return found


def pictures(folder: Path, count: int) -> list[Path]:
    places = [folder / f"{number}.png" for number in range(count)]
    for number, place in enumerate(places):
        Image.new("RGB", (900 + number, 600), (number, 0, 0)).save(place)
    return places


@pytest.mark.parametrize(("count", "halves"), [(1, (1, 0)), (2, (1, 1)), (7, (4, 3)), (12, (5, 5))])
def test_a_sheet_shows_the_worst_and_the_best_each_with_its_own_image(shown, tmp_path, monkeypatch, count, halves):
    monkeypatch.setattr(card, "ENDS", 5)
    contact_sheet_png(predictions(count), pictures(tmp_path, count))
    assert [name.split(" ")[1] for name in shown] == [str(half) for half in halves]
    worst, best = shown.values()
    assert tuple(map(len, (worst, best))) == halves
    scores = [score for *_, score in worst + best[::-1]]
    assert scores == sorted(scores)
    reds = {int(image[0, 0, 0]) for image, *_ in worst + best}
    assert len(reds) == sum(halves)
    for image, caption, reference, _ in worst + best:
        assert caption == RIGHT
        assert reference == (RIGHT if image[0, 0, 0] % 2 else WRONG)


def test_large_images_are_not_held_as_they_are(shown, tmp_path):
    contact_sheet_png(predictions(2), pictures(tmp_path, 2))
    assert all(image.size <= 264 * 198 * 3 for rows in shown.values() for image, *_ in rows)


def test_a_sheet_is_a_picture(tmp_path):
    png = contact_sheet_png(predictions(3), pictures(tmp_path, 3))
    with Image.open(io.BytesIO(png)) as page:
        assert page.format == "PNG"
        assert page.width > 2 * 264


def test_images_are_as_many_as_predictions(tmp_path):
    with pytest.raises(ValueError, match="shorter"):
        contact_sheet_png(predictions(3), pictures(tmp_path, 2))
