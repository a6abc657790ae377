"""A tiny Marian model, from a folder through the real door: translations, batches, the language they are for."""

import pytest

from captioning import cli
from captioning.errors import BundleError, CaptioningError
from captioning.extras.translation import Translator, open_translator, translated_captioner
from tests.extras import tiny_models

pytestmark = [pytest.mark.hf, pytest.mark.filterwarnings("default")]

TEXTS = ["a red dog", "a man runs on the grass", "two cats sleep"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    pytest.importorskip("torch").set_num_threads(1)
    place = tmp_path_factory.mktemp("translators")
    one = tiny_models.save_marian(place / "one")
    return {"one": one, "several": tiny_models.save_marian(place / "several", codes=(">>fra<<", ">>vie<<"))}


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("captioning.extras.translation.LONGEST", 12)


def test_a_batch_is_translated_as_its_texts_are_alone(models):
    translator = Translator("one", models["one"], "vi")
    together = translator(TEXTS)
    assert together == [translator([text])[0] for text in TEXTS]
    assert len(set(together)) > 1
    assert all(text.isprintable() and text == text.strip() for text in together)


def test_a_translation_is_what_the_model_generates(models):
    import transformers

    tokenizer = transformers.MarianTokenizer.from_pretrained(models["one"])
    model = transformers.MarianMTModel.from_pretrained(models["one"])
    made = model.generate(**tokenizer(TEXTS[:1], return_tensors="pt"), max_new_tokens=12)
    [expected] = tokenizer.batch_decode(made, skip_special_tokens=True)
    assert Translator("one", models["one"], "vi")(TEXTS[:1]) == [" ".join(expected.split())]


def test_a_model_of_several_languages_translates_into_each(models):
    for language, code in (("vi", ">>vie<<"), ("fr", ">>fra<<")):
        translator = Translator("several", models["several"], language)
        assert len(translator(TEXTS)) == 3
        model, tokenizer = translator._loaded()
        seen = []
        model.generate = lambda seen=seen, **inputs: seen.append(inputs["input_ids"]) or inputs["input_ids"]
        translator(["a cat"])
        assert seen[0][0, 0] == tokenizer.encoder[code]
    with pytest.raises(CaptioningError, match="several translates into fra, vie, not into ja"):
        Translator("several", models["several"], "ja")(TEXTS)


def test_the_second_time_the_model_is_not_even_loaded(models, monkeypatch):
    first = open_translator("vi", str(models["one"]), offline=True)(TEXTS)
    monkeypatch.setattr(Translator, "_loaded", lambda self: pytest.fail("loaded"))
    assert open_translator("vi", str(models["one"]), offline=True)(TEXTS) == first


def test_a_captioner_is_no_translator(tmp_path):
    with pytest.raises(BundleError, match="is a model of type blip, not a translator"):
        open_translator("vi", str(tiny_models.save("blip", tmp_path)), offline=True)


def test_a_vocabulary_that_does_not_fit_is_told(models, tmp_path):
    import shutil

    folder = shutil.copytree(models["one"], tmp_path / "broken")
    (folder / "vocab.json").write_text("{")
    with pytest.raises(BundleError, match="cannot be loaded"):
        open_translator("vi", str(folder), offline=True)(TEXTS)


def test_a_published_captioner_is_translated_too(models, pictures, tmp_path):
    from captioning.extras.hf_captioners import load_published

    blip = load_published(str(tiny_models.save("blip", tmp_path)), offline=True)
    made = translated_captioner(blip, "vi", str(models["one"]), offline=True)
    found = made.caption(pictures[:2], language="vi", max_length=4)
    assert all(each.translation.language == "vi" and each.verdict == "not calibrated" for each in found)


def test_the_command_writes_a_translation(models, loaded, photo, capsys):
    arguments = ["--language", "vi", "--translator", str(models["one"]), "--offline"]
    assert cli.main(["caption", photo, *arguments]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(photo)
    assert said.err == "captioning: translated from English by one.\n"
