"""The chain to a caption in a language: the captioner's own, else a translation, else one sentence. With a stand-in."""

import csv
import json
from dataclasses import replace

import pytest

from captioning import cli
from captioning.errors import BundleError, CaptioningError, DownloadError, ImageError, MissingExtra
from captioning.extras.marian_names import default_model, target_code
from captioning.extras.translation import TranslatedCaptioner, open_translator, translated_captioner
from captioning.inference.caption import Caption
from captioning.inference.folder import caption_images
from captioning.inference.protocol import Description, encodes_apart
from captioning.options import DecodeOptions
from tests.extras.stand_ins import stand_in_marian
from tests.extras.test_hf_files import http_client, tensors

VI = DecodeOptions(max_length=6, language="vi")


@pytest.fixture
def marian(tmp_path, monkeypatch):
    """The folder of a Marian model, whose translations are the texts in capitals."""
    folder = tmp_path / "marian"
    return folder, stand_in_marian(folder, monkeypatch)


class Polyglot:
    """A captioner of some languages that says which one it was asked for."""

    def __init__(self, *languages):
        self.options, self.languages, self.asked = DecodeOptions(), languages, []

    def describe(self):
        return Description("polyglot", languages=self.languages)

    def speaking(self, language):
        return self

    def caption(self, images, options=None, **_):
        self.asked.append(options.language)
        found = [Caption("a dog", (), 0.0, (Caption("a cat", (), 0.0),), language="en") for _ in images]
        return [
            ImageError("missing", "no") if image is None else each for image, each in zip(images, found, strict=True)
        ]


def translated(captioner, language, marian, **more):
    return translated_captioner(captioner, language, str(marian[0]), offline=True, **more)


def test_a_language_that_the_captioner_has_is_not_translated(marian):
    told = []
    for language in ("", "en", "de"):
        captioner = Polyglot("en", "de")
        assert translated(captioner, language, marian, tell=told.append) is captioner
    assert told[-1] == "polyglot has captions in de: nothing is translated."
    assert translated_captioner(captioner, "de", offline=True, tell=pytest.fail) is captioner


@pytest.mark.parametrize(("languages", "own"), [(("en", "de"), ""), (("de", "en"), "en"), ((), ""), (("en",), "")])
def test_the_captions_that_are_translated_are_english(marian, languages, own):
    captioner = translated(Polyglot(*languages), "vi", marian)
    [first, missing] = captioner.caption(["x", None], VI)
    assert captioner.asked == [own]
    assert isinstance(missing, ImageError)
    assert (str(first), first.text, first.language, first.written_language) == ("A DOG", "a dog", "en", "vi")
    assert [str(other) for other in first.alternatives] == ["A CAT"]
    assert first.translation.model == "marian"
    assert captioner.speaking("vi") is captioner
    [plain] = captioner.caption(["x"], replace(VI, language=""))
    assert (str(plain), plain.translation) == ("a dog", None)


def test_other_languages_than_english_are_not_translated(marian):
    with pytest.raises(CaptioningError, match="polyglot has captions in de, zh; only English ones are translated"):
        translated(Polyglot("de", "zh"), "vi", marian)


def test_the_words_of_a_translated_caption_keep_their_attention(marian, captioner, pictures):
    made = TranslatedCaptioner(captioner, [open_translator("vi", str(marian[0]), offline=True)])
    plain, found = captioner.caption(pictures[0], max_length=6), made.caption(pictures[0], VI)
    assert str(found) == str(plain).upper()
    assert [word.text for word in found.words] == [word.text for word in plain.words]
    assert all((one.attention == two.attention).all() for one, two in zip(found.words, plain.words, strict=True))
    assert (found.score, found.confidence, found.verdict) == (plain.score, plain.confidence, plain.verdict)
    assert str(made.caption(pictures[0], language="vi", max_length=6)) == str(found)
    assert len(made.alternatives(pictures[0], found, VI)) == len(found.words) + 1
    assert encodes_apart(made)
    assert not encodes_apart(TranslatedCaptioner(Polyglot(), []))
    assert made.image_size == captioner.image_size


def test_a_folder_is_translated_in_batches_and_each_text_once(marian, captioner, photo, tmp_path):
    made = translated(captioner, "vi", marian)
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for path in paths:
        path.write_bytes((tmp_path / "photo.png").read_bytes())
    [batch] = caption_images(made, paths, VI)
    assert {each.translation.language for each in batch.values()} == {"vi"}
    assert marian[1] == [1]
    list(caption_images(made, paths, VI))
    assert marian[1] == [1]  # the second time from the cache


def test_what_is_written_is_the_translation_and_says_so(marian, loaded, photo, tmp_path, capsys):
    arguments = ["caption", photo, "--language", "vi", "--translator", str(marian[0]), "--max-length", "6"]
    for name in ("out.csv", "out.jsonl"):
        assert cli.main([*arguments, "--output", str(tmp_path / name)]) == 0
        assert "translated from English by marian." in capsys.readouterr().err
    with open(tmp_path / "out.csv", encoding="utf-8") as file:
        [row] = csv.DictReader(file)
    assert (row["caption"], row["language"]) == (row["original"].upper(), "vi")
    assert row["translated_by"] == "marian"
    record = json.loads((tmp_path / "out.jsonl").read_text())
    assert {name: str(record[name]) for name in ("caption", "original", "translated_by", "language")} == {
        name: row[name] for name in ("caption", "original", "translated_by", "language")
    }
    assert cli.main([*arguments, "--output", str(tmp_path / "out.csv")]) == 0  # nothing is left to do
    assert "1 there already" in capsys.readouterr().err
    assert cli.main([*arguments, "--metadata", "--journal", str(tmp_path / "journal.jsonl")]) == 0
    assert row["caption"].encode() in (tmp_path / "photo.png").read_bytes()


def test_without_a_language_there_is_nothing_to_translate(loaded, photo, capsys):
    assert cli.main(["caption", photo, "--translator", "x/y"]) == 2
    assert "--translator is for a --language" in capsys.readouterr().err


def test_without_the_extra_one_sentence_names_the_languages_and_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        translated_captioner(Polyglot("en", "de"), "vi", offline=True)
    assert str(caught.value).startswith("polyglot has captions in en, de, and vi needs a translation: ")
    assert "[hf]'" in str(caught.value)


def test_an_unknown_language_names_the_languages_and_the_extra(marian, monkeypatch):
    monkeypatch.setattr("captioning.extras.hf_hub.cached_folder", lambda name, revision="": None)
    with pytest.raises(DownloadError) as caught:
        translated_captioner(Polyglot("en", "de"), "xx", offline=True)
    assert str(caught.value).startswith(
        "polyglot has captions in en, de, and xx needs a translation with the extra hf: Helsinki-NLP/opus-mt-en-xx"
    )
    with pytest.raises(CaptioningError, match="Vietnamese is no language"):
        open_translator("Vietnamese", offline=True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda folder: (folder / "config.json").write_text('{"model_type": "bart"}'),
            "is a model of type bart, not a",
        ),
        (lambda folder: (folder / "target.spm").unlink(), "has no target.spm: it is not whole"),
        (lambda folder: (folder / "model.safetensors").write_bytes(tensors()[:-1]), "is not whole"),
        (lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "a pickle"),
        (lambda folder: (folder / "tokenizer_config.json").write_text('{"auto_map": {}}'), "code of its own"),
        (lambda folder: (folder / "config.json").unlink(), "is no model"),
    ],
)
def test_a_folder_that_is_no_whole_marian_model_is_refused(marian, change, says):
    change(marian[0])
    with pytest.raises(BundleError, match=says):
        open_translator("vi", str(marian[0]), offline=True)


def test_what_workers_of_a_cluster_captioned_is_translated_here(marian, loaded, photo, monkeypatch, capsys):
    seen = []

    def workers(load, images, *, search, **_):
        seen.append(search.language)
        yield {image: loaded.caption(image, search) for image in images}

    monkeypatch.setattr("captioning.extras.ray_engine.require_ray", lambda: None)
    monkeypatch.setattr("captioning.extras.ray_engine.caption_images", workers)
    arguments = ["--language", "vi", "--translator", str(marian[0]), "--max-length", "6", "--engine", "ray"]
    assert cli.main(["caption", photo, *arguments]) == 0
    said = capsys.readouterr()
    assert said.out.split("\t")[1].isupper()
    assert "translated from English by marian." in said.err
    assert seen == [""]


def test_without_a_network_the_sentence_says_so(marian, monkeypatch):
    httpx = http_client()

    def unreachable(*_, **__):
        raise httpx.ConnectError("[Errno -2] Name or service not known")

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("captioning.extras.hf_hub.cached_folder", lambda name, revision="": None)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    with pytest.raises(DownloadError, match=r"opus-mt-en-fr could not be fetched .*check the network, or give"):
        translated_captioner(Polyglot("en"), "fr", offline=False)


def test_a_model_that_changed_is_asked_again(marian, tmp_path):
    assert open_translator("vi", str(marian[0]), offline=True)(["a dog", "", "a dog"]) == ["A DOG", "", "A DOG"]
    assert open_translator("vi", str(marian[0]), offline=True)(["a dog"]) == ["A DOG"]
    assert marian[1] == [1]
    (marian[0] / "model.safetensors").write_bytes(tensors(5))
    open_translator("vi", str(marian[0]), offline=True)(["a dog"])
    open_translator("fr", str(marian[0]), offline=True)(["a dog"])
    assert marian[1] == [1, 1, 1]


def test_models_are_named_by_language():
    assert default_model("fr") == "Helsinki-NLP/opus-mt-en-fr"
    assert default_model("vi").startswith("Helsinki-NLP/opus-mt-en-vi@")
    assert default_model("zh-hant") == "Helsinki-NLP/opus-mt-en-zh"
    assert default_model("ja") == "Helsinki-NLP/opus-mt-en-jap"


def test_a_model_of_several_languages_is_told_which():
    assert target_code([], "vi", "m") == ""
    assert target_code([">>vie_Hani<<", ">>vie<<"], "vi", "m") == ">>vie<< "
    assert target_code([">>cmn_Hans<<", ">>cmn_Hant<<"], "zh-hant", "m") == ">>cmn_Hant<< "
    assert target_code([">>por<<", ">>pob<<"], "pt-br", "m") == ">>pob<< "
    assert target_code([">>por<<"], "pt-br", "m") == ">>por<< "
    with pytest.raises(CaptioningError, match=r"m translates into fra, deu, not into vi; choose another --translator"):
        target_code([">>fra<<", ">>deu<<"], "vi", "m")
