"""Captions state their language in a column; one language is read at a time, and the splits are the same for all."""

import json

import pytest

from captioning.data.check import inspect
from captioning.data.dataset import read_dataset, require_one_language
from captioning.data.tokenizer import Tokenizer, usual_spelling
from captioning.errors import BundleError, DataError
from captioning.inference.records import alt_text


def manifest(folder, rows, columns="image,caption,language"):
    for row in rows:
        (folder / row.partition(",")[0]).touch()
    (folder / "captions.csv").write_text("\n".join([columns, *rows]), encoding="utf-8")
    return folder


@pytest.fixture
def mixed(tmp_path):
    """Forty images; each has an English caption, every second a German one, one a caption of no stated language."""
    rows = [f"{number:02}.jpg,a dog,en" for number in range(40)]
    rows += [f"{number:02}.jpg,ein Hund,DE" for number in range(0, 40, 2)] + ["01.jpg,nobody knows,"]
    return manifest(tmp_path, rows)


def test_only_captions_of_the_language_are_read_and_those_of_none_stated(mixed):
    dataset = read_dataset(mixed, language="de")
    captions = {image.name: some for split in dataset.splits.values() for image, some in split.items()}
    assert captions == {f"{number:02}.jpg": ["ein Hund"] for number in range(0, 40, 2)} | {"01.jpg": ["nobody knows"]}
    assert (dataset.language, dataset.languages) == ("de", {"de": 20, "en": 40})


def test_an_image_is_in_the_same_split_in_every_language(mixed):
    german, english = (read_dataset(mixed, language=code).splits for code in ("de", "en"))
    for split, images in german.items():
        assert images.keys() <= english[split].keys()


def test_several_languages_need_a_choice_and_one_does_not(mixed, tmp_path):
    with pytest.raises(DataError, match=r"has captions in de, en; choose one with --language"):
        require_one_language(read_dataset(mixed))
    with pytest.raises(DataError, match=r"has no captions in fr, only in de, en; choose one of these\.$"):
        read_dataset(mixed, language="fr")
    one = read_dataset(manifest(tmp_path, ["a.jpg,ein Hund,de"]))
    require_one_language(one)
    assert one.language == "de"


@pytest.mark.parametrize("column", ["language", "Lang", "locale"])
def test_the_column_has_several_names(tmp_path, column):
    assert read_dataset(manifest(tmp_path, ["a.jpg,ein Hund,de"], f"image,caption,{column}")).languages == {"de": 1}


def test_records_state_a_language_for_all_their_captions(tmp_path):
    (tmp_path / "a.jpg").touch()
    record = {"file_name": "a.jpg", "captions": ["ein Hund", "zwei Hunde"], "language": "de-at"}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(record))
    assert read_dataset(tmp_path).languages == {"de-at": 2}


def test_a_language_without_a_code_is_a_problem(tmp_path):
    dataset = read_dataset(manifest(tmp_path, ["a.jpg,a dog,en", "b.jpg,ein Hund,German of course"]))
    assert [problem.where for problem in dataset.problems] == ["captions.csv:3", "b.jpg"]
    assert "German of course is no code such as de" in dataset.problems[0].what


def test_the_check_counts_the_captions_of_each_language(mixed):
    assert "  languages           de 20, en 40 captions\n" in inspect(read_dataset(mixed), progress=False).text()


def test_words_are_spelt_as_most_captions_do_but_for_their_first_words():
    captions = ["Ein Hund und ein T-Shirt", "Der Hund", "ein hund", "Hunde im ICE", "hunde", "Eine Frau"]
    assert usual_spelling(captions) == {"hund": "Hund", "t-shirt": "T-Shirt", "ice": "ICE", "frau": "Frau"}
    tokenizer = Tokenizer.fit(captions, min_count=1).spelt(captions)
    assert tokenizer.decode(tokenizer.encode("EIN HUND UND HUNDE")) == "ein Hund und hunde"
    assert tokenizer.id("Hund") == tokenizer.id("hund")
    for read, data in ((Tokenizer.from_json, tokenizer.to_json()), (Tokenizer.from_pickle, tokenizer.to_pickle())):
        assert read(data).spelling == tokenizer.spelling


def test_a_vocabulary_without_spelling_is_written_as_before():
    tokenizer = Tokenizer.fit(["a dog"], min_count=1)
    assert json.loads(tokenizer.to_json()).keys() == {"format", "words"}


@pytest.mark.parametrize(
    "spelling", [{"hund": "Katze"}, {"wolf": "Wolf"}, {"hund": 7}, ["Hund"], {"<end>": "<END>"}, {"hund": "hund\n"}]
)
def test_a_hostile_spelling_is_refused(spelling):
    record = json.loads(Tokenizer.fit(["ein hund"], min_count=1).to_json()) | {"spelling": spelling}
    with pytest.raises(BundleError, match="pell"):
        Tokenizer.from_json(json.dumps(record))


def test_chinese_is_written_without_spaces_and_other_words_between_it_with_them():
    tokenizer = Tokenizer.fit(["两只狗 frisbee", "the dog's"], min_count=1)
    assert tokenizer.decode(tokenizer.encode("两只狗 frisbee 狗")) == "两只狗 frisbee 狗"
    assert tokenizer.decode(tokenizer.encode("the dog's dog")) == "the dog's dog"


@pytest.mark.parametrize(
    ("caption", "text"),
    [("两只狗。", "两只狗。"), ("狗" * 200, "狗" * 124 + "。"), ("ein Hund läuft", "Ein Hund läuft.")],
)
def test_alternative_text_ends_as_its_language_does(caption, text):
    assert alt_text(caption) == text
