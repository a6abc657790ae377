"""Like cards are compared and unlike ones refused; what is better is told with its interval."""

import json
from pathlib import Path

import pytest

from captioning.errors import DataError
from captioning.evaluation.compare import compare, difference
from captioning.evaluation.predictions import Prediction, predictions_text
from captioning.evaluation.scoring import score_card

SUBJECTS = (
    "two girls jump over a puddle",
    "one grey horse pulls carts",
    "somebody paints his garden fence",
    "many runners pass under bridges",
    "an owl watches from its tree",
    "the red kite hangs in wires",
)


def perfect() -> list[Prediction]:
    return [
        Prediction(f"{number}.jpg", text, (text, f"{text} today", f"there {text}"))
        for number, text in enumerate(SUBJECTS)
    ]


@pytest.fixture(scope="module")
def card():
    return score_card(perfect(), split="test", about={})


def test_the_difference_of_two_cards(card):
    worse = score_card([Prediction(each.image, "a dog", each.references) for each in perfect()], split="test", about={})
    found = difference(card, worse)
    assert found.keys() == card["scores"].keys()
    assert all(value > 0 for value in found.values())
    assert set(difference(card, card).values()) == {0}


@pytest.mark.parametrize("name", ["split", "image_list_sha256", "references_per_image", "tokeniser"])
def test_unlike_cards_are_not_compared(card, name):
    with pytest.raises(DataError, match=f"cannot be compared: {name} is .* other in the other"):
        difference(card, card | {name: "other"})


def test_cards_of_other_images_are_not_compared(card):
    with pytest.raises(DataError, match="image_list_sha256"):
        difference(card, score_card(perfect()[1:], split="test", about={}))


def bundle(folder: Path, predictions: list[Prediction], **about) -> Path:
    """A folder with the cards and predictions of two splits, as a training writes them."""
    folder.mkdir()
    cards = {split: score_card(predictions, split=split, about=about) for split in ("dev", "test")}
    (folder / "scores.json").write_text(json.dumps(cards))
    for split in cards:
        (folder / f"predictions-{split}.jsonl").write_text(predictions_text(predictions))
    return folder


@pytest.fixture
def good(tmp_path):
    return bundle(tmp_path / "good", perfect())


@pytest.fixture
def bad(tmp_path):
    """Says the same of all; its images come in another order."""
    return bundle(tmp_path / "bad", [Prediction(each.image, "a dog", each.references) for each in perfect()[::-1]])


def verdicts(text: str) -> dict[str, str]:
    lines = [line.split() for line in text.splitlines() if "95 %" in line]
    return {words[0]: words[-1] if words[-1] in ("better", "worse") else "" for words in lines}


def test_the_better_bundle_is_told_with_its_intervals(good, bad):
    text = compare([bad, good])
    assert text.startswith(f"{good} against {bad}: test split, 6 images\n")
    assert set(verdicts(text).values()) == {"better"}
    assert set(verdicts(compare([good, bad], "dev")).values()) == {"worse"}


def test_nothing_is_better_where_the_interval_holds_zero(good, tmp_path):
    told = perfect()
    told[0] = Prediction(told[0].image, "a dog", told[0].references)
    nearly = bundle(tmp_path / "nearly", told)
    text = compare([good, good, nearly])
    assert set(verdicts(text).values()) == set(verdicts(compare([nearly, good])).values()) == {""}
    assert text.count("against") == 2
    assert "+0.000  (95 % between +0.000 and +0.000)" in text


def test_a_scores_file_and_its_folder_are_the_same_and_a_single_card_will_do(good, bad):
    (bad / "scores.json").write_text(json.dumps(json.loads((bad / "scores.json").read_text())["dev"]))
    text = compare([good / "scores.json", bad])
    assert ": dev split, 6 images" in text
    assert text == compare([good / "scores.json", bad / "scores.json"]).replace(str(bad / "scores.json"), str(bad))


def test_scores_that_only_one_card_has_are_left_out(good, bad):
    cards = json.loads((bad / "scores.json").read_text())
    del cards["test"]["scores"]["ROUGE-L"]
    (bad / "scores.json").write_text(json.dumps(cards))
    assert "ROUGE-L" not in compare([good, bad])


def _write(folder, name, text):
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize(
    ("spoil", "saying"),
    [
        (lambda folder: (folder / "scores.json").unlink(), "There is no .*scores.json; give the folder"),
        (lambda folder: _write(folder, "scores.json", "{"), "holds no score cards"),
        (lambda folder: _write(folder, "scores.json", "[]"), "holds no score cards"),
        (lambda folder: _write(folder, "scores.json", "[" * 10**5), "holds no score cards"),
        (lambda folder: _write(folder, "scores.json", '{"a":' * 900 + "1" + "}" * 900), "holds no score cards"),
        (lambda folder: _write(folder, "predictions-test.jsonl", "[" * 10**5), "is not a prediction .*nested"),
        (lambda folder: _write(folder, "predictions-test.jsonl", b'["\xff"]'), "is not a prediction .*surrogates"),
        (lambda folder: _write(folder, "scores.json", '{"test": {}}'), "holds no score cards"),
        (lambda folder: _write(folder, "scores.json", "{}"), "a card of the same split"),
        (
            lambda folder: _write(folder, "predictions-test.jsonl", ""),
            "not hold the captions that the card beside it scores",
        ),
    ],
)
def test_a_bundle_that_cannot_be_compared_is_refused(good, bad, spoil, saying):
    spoil(bad)
    with pytest.raises(DataError, match=saying):
        compare([good, bad])


@pytest.mark.parametrize("captions", [False, True])
def test_without_predictions_the_scores_stand_beside_each_other_and_the_command_is_told(good, bad, captions):
    (bad / "predictions-test.jsonl").unlink()
    table, advice = compare([good, bad], captions=captions).split("\n\n")
    first, _, *rows = table.splitlines()
    assert first == "test split, 6 images"
    assert [line.split()[0] for line in rows] == [str(good), str(bad)]
    assert f"unknown without predictions-test.jsonl in {bad}; caption the split again" in advice
    assert advice.endswith(f": python -m captioning compare {good} {bad} --data FOLDER --split test")
    fewer = bundle(bad.parent / "fewer", perfect()[1:])
    (fewer / "predictions-test.jsonl").unlink()
    with pytest.raises(DataError, match="image_list_sha256"):
        compare([good, fewer])


def test_bundles_of_other_images_or_references_are_refused(good, tmp_path):
    fewer = bundle(tmp_path / "fewer", perfect()[1:])
    with pytest.raises(DataError, match="image_list_sha256"):
        compare([good, fewer])
    retold = [Prediction(each.image, each.caption, (*each.references[1:], "others")) for each in perfect()]
    with pytest.raises(DataError, match="references of their images differ"):
        compare([good, bundle(tmp_path / "retold", retold)])
    with pytest.raises(DataError, match="a card of the train split"):
        compare([good, good], "train")


# Predictions files, and more than two


def file_of(path: Path, predictions: list[Prediction]) -> Path:
    path.write_text(predictions_text(predictions))
    return path


@pytest.fixture
def dull(tmp_path):
    return file_of(tmp_path / "dull.jsonl", [Prediction(each.image, "a dog", each.references) for each in perfect()])


def test_predictions_files_alone_will_do(dull, tmp_path):
    text = compare([dull, file_of(tmp_path / "right.jsonl", perfect())])
    assert text.startswith(f"{tmp_path / 'right.jsonl'} against {dull}: 6 images\n")
    assert set(verdicts(text).values()) == {"better"}


def test_a_predictions_file_is_compared_with_a_bundle_on_any_split(good, dull):
    assert f"{dull} against {good}: test split, 6 images" in compare([good, dull])
    assert f"{good} against {dull}: dev split, 6 images" in compare([dull, good], "dev")


def test_of_several_all_scores_stand_in_one_table(good, bad, dull):
    table = compare([good, bad, dull]).split("\n\n")[0].splitlines()
    assert len({len(line) for line in table}) == 1, "columns stand below one another"
    _, *rows = [line.split() for line in table]
    assert [row[0] for row in rows] == [str(good), str(bad), str(dull)]
    cider = -len(table[0].split("CIDEr-D")[1].split()) - 1
    score = json.loads((good / "scores.json").read_text())["test"]["scores"]["CIDEr-D"]["value"]
    assert float(rows[0][cider]) == pytest.approx(score, abs=1e-3)
    assert rows[1][1:] == rows[2][1:]
    assert [row[-1] for row in rows] == ["100%", "17%", "17%"]


def test_captions_stand_below_what_people_said(good, dull):
    *_, last = compare([good, dull], captions=True).split("\n\n")
    image, *lines = last.splitlines()
    assert image == "5.jpg"
    assert [line.split(maxsplit=1) for line in lines] == [
        *(["people", text] for text in perfect()[5].references),
        [str(good), SUBJECTS[5]],
        [str(dull), "a dog"],
    ]


@pytest.mark.parametrize(
    ("text", "saying"), [(None, "There is no"), ("", "holds no predictions"), ("{}\n", ":1 is not")]
)
def test_a_file_without_predictions_is_refused(dull, tmp_path, text, saying):
    path = tmp_path / "none.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=saying):
        compare([dull, path])
