"""A captioner gets further languages, each with words of its own, and stays what it was in its own."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from PIL import Image

import captioning
from captioning import cli
from captioning.data.tokenizer import normalise
from captioning.errors import BundleError, CaptioningError
from captioning.inference.bundle_files import config_text, read_config
from captioning.inference.records import csv_cells

SENTENCES = {
    "en": ("a red dog runs", "the blue cat sits"),
    "de": ("Ein roter Hund läuft", "Eine blaue Katze sitzt", "Ein Hund und eine Katze"),
    "zh": ("一只红色的狗", "一只猫坐着。"),
}
QUICK = ["--epochs", "1", "--min-count", "1", "--reinforce-epochs", "0", "--batch-size", "8", "--caption-length", "5"]
QUICK += ["--precision", "mixed_bfloat16"]  # a language's own weights stay float32


@pytest.fixture(scope="module")
def data(tmp_path_factory, pictures):
    """A manifest of seven pictures with captions in three languages."""
    folder = tmp_path_factory.mktemp("manifest")
    rows = ["image,caption,split,language"]
    for number, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(folder / f"{number}.png")
        for code, some in SENTENCES.items():
            split = "train" if number < 5 else "dev"
            rows += [f"{number}.png,{some[(number + turn) % len(some)]},{split},{code}" for turn in range(2)]
    (folder / "captions.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def extended(saved, data, tmp_path_factory):
    """The bundle of `saved` with German and Chinese captions beside its own."""
    place = tmp_path_factory.mktemp("extended")
    folders = ["--artifacts", str(place), "--cache", str(place / "cache"), "--name", "three"]
    flags = ["train", "--data", str(data), "--bundle", str(saved), "--add-languages", "de", "zh", *QUICK, *folders]
    with pytest.MonkeyPatch.context() as patch:  # compiling costs more than these few steps
        eager = property(lambda _: True, lambda *_: None)
        patch.setattr("captioning.decoder.model.CaptionModel.run_eagerly", eager, raising=False)
        assert cli.main(flags) == 0
    return place / "three"


@pytest.fixture(scope="module")
def several(extended):
    return captioning.load(extended)


@pytest.mark.parametrize("code", ["de", "zh"])
@pytest.mark.parametrize("strategy", ["beam", "greedy", "sample"])
def test_a_caption_holds_only_words_of_its_language(several, pictures, code, strategy):
    words = {word for text in SENTENCES[code] for word in normalise(text)}
    for caption in several.caption(pictures, language=code, strategy=strategy, sampling_seed=3, min_length=3):
        assert caption.language == code
        assert caption.words
        assert {word.text.lower() for word in caption.words} <= words


def test_german_nouns_are_spelt_with_a_capital_and_chinese_without_spaces(extended):
    german, chinese = (captioning.load(extended).speaking(code).tokenizer for code in ("de", "zh"))
    assert german.decode(german.encode("ein roter hund läuft")) == "ein roter Hund läuft"
    assert chinese.decode(chinese.encode("一只红色的狗")) == "一只红色的狗"


def test_its_own_captions_and_files_stay_the_same(saved, extended, several, captioner, pictures):
    for options in ({}, {"language": "en"}):
        for caption, before in zip(several.caption(pictures, **options), captioner.caption(pictures), strict=True):
            assert (str(caption), caption.score) == (str(before), pytest.approx(before.score, abs=1e-5))
    before, after = read_config(saved), read_config(extended)
    for name, digest in before["files"].items():
        assert after["files"][name] == digest
    assert {name: after[name] for name in before if name != "files"} == {
        name: before[name] for name in before if name != "files"
    }
    assert several.languages == ("en", "de", "zh")


def test_other_words_and_a_beginning_are_of_the_language(several, pictures):
    caption = several.caption(pictures[0], language="de", begin="ein Hund")
    assert str(caption).startswith("ein Hund")
    choices = several.alternatives(pictures[0], caption)
    words = {word for text in SENTENCES["de"] for word in normalise(text)}
    assert {word.lower() for some in choices for word, _ in some} <= words | {"(end)"}


def test_a_language_it_has_not_is_refused_in_a_sentence(several, captioner, pictures):
    with pytest.raises(CaptioningError, match=r"captions in en, de, zh; --language fr cannot be used\.$"):
        several.caption(pictures[0], language="fr")
    with pytest.raises(CaptioningError, match=r"does not state; --language de cannot be used\.$"):
        captioner.caption(pictures[0], language="de")
    with pytest.raises(CaptioningError, match="a code such as de"):
        several.caption(pictures[0], language="Deutsch!")


def test_scores_of_each_language_are_in_the_bundle(extended):
    card = json.loads((extended / "scores-de.json").read_text("utf-8"))["dev"]
    assert (card["language"], card["images"]) == ("de", 2)
    assert {"BLEU-4", "CIDEr-D"} < card["scores"].keys()
    assert not any("METEOR" in name for name in card["scores"])
    assert "## Language zh" in (extended / "README.md").read_text("utf-8")


def test_captions_are_written_with_their_language(extended, data, tmp_path, capsys):
    output = tmp_path / "captions.csv"
    flags = ["caption", str(data / "0.png"), "--bundle", str(extended), "--output", str(output)]
    assert cli.main([*flags, "--language", "zh", "--alt-text"]) == 0
    header, row = map(csv_cells, output.read_text("utf-8").splitlines())
    assert header[-1] == "language"
    assert row[-1] == "zh"
    assert row[1].endswith("。")
    assert cli.main([*flags, "--language", "xx"]) != 0
    assert "captions in en, de, zh" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"de": {"rank": 0}}, "rank from 1"),
        ({"../x": {"rank": 4}}, "under its code"),
        ({"de": {"rank": 4}}, "does not fit"),
        ({"de": {"rank": 32, "calibration": {"bias": 1e300}}}, "does not describe"),
        ([], "under its code"),
    ],
)
def test_a_hostile_list_of_languages_is_refused(extended, tmp_path, change, reason):
    folder = copied(extended, tmp_path)
    config = read_config(folder)
    (folder / "config.json").write_text(config_text(config | {"languages": change}))
    with pytest.raises(BundleError, match=reason):
        captioning.load(folder)


@pytest.mark.parametrize("numbers", [b"", b"\xff\x7f" * 8])
def test_damaged_numbers_are_refused(extended, tmp_path, numbers):
    folder = copied(extended, tmp_path)
    data = (folder / "decoder-de.bin").read_bytes()
    replace_file(folder, "decoder-de.bin", numbers + data[len(numbers) :] if numbers else b"")
    with pytest.raises(BundleError, match="does not fit"):
        captioning.load(folder)


@pytest.mark.parametrize(
    "spelling", [{"hund": "Katze"}, {"wolf": "Wolf"}, {"hund": 7}, ["Hund"], {"<end>": "<END>"}, {"hund": "hund\n"}]
)
def test_a_hostile_vocabulary_is_refused(extended, tmp_path, spelling):
    folder = copied(extended, tmp_path)
    record = json.loads((folder / "vocabulary-de.json").read_text("utf-8"))
    replace_file(folder, "vocabulary-de.json", json.dumps(record | {"spelling": spelling}).encode())
    with pytest.raises(BundleError, match="pell"):
        captioning.load(folder)


def test_data_in_several_languages_need_a_choice(data, extended, capsys):
    for command in (["evaluate", str(data), "--split", "dev"], ["train", "--data", str(data), "--encoder", "tiny"]):
        assert cli.main([*command, *(["--bundle", str(extended)] if command[0] == "evaluate" else [])]) != 0
        assert "captions in de, en, zh; choose one with --language" in capsys.readouterr().err


def copied(folder, place):
    """A copy of a bundle that may be changed."""
    return shutil.copytree(folder, place / "copy")


def replace_file(folder, name, data):
    """Change a file of a bundle on purpose, with the right hash."""
    (folder / name).write_bytes(data)
    config = read_config(folder)
    config["files"][name] = hashlib.sha256(data).hexdigest()
    (folder / "config.json").write_text(config_text(config))


def test_weights_that_a_language_shares_are_those_of_its_base(several):
    german = several.speaking("de")
    for name in ("feature_projection", "keys", "attention_score", "embedding_projection"):
        for own, theirs in zip(
            german.model.get_layer(name).get_weights(), several.model.get_layer(name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(own, theirs)
    assert german.encoder is several.encoder
    assert german._grids is several._grids
