"""One image, the same image in a list, as a file, among many: the same caption, made of words that add up."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from captioning import captioner as room
from captioning.captioner import Captioner
from captioning.errors import CaptioningError, ImageError
from captioning.options import DecodeOptions

THREE = DecodeOptions(max_length=6, num_beams=3, num_captions=3)


def assert_same(one, other) -> None:
    assert one.text == other.text
    assert one.score == pytest.approx(other.score, abs=1e-5)
    for word, same in zip(one.words, other.words, strict=True):
        assert word.probability == pytest.approx(same.probability, abs=1e-5)
        np.testing.assert_allclose(word.attention, same.attention, atol=1e-5)
    for alternative, same in zip(one.alternatives, other.alternatives, strict=True):
        assert_same(alternative, same)


def fresh(captioner) -> Captioner:
    return Captioner(
        captioner.model, captioner.tokenizer, encoder=None, image_size=captioner.image_size, options=captioner.options
    )


@pytest.fixture(scope="module")
def captions(captioner, pictures):
    return captioner.caption(pictures, THREE)


def test_pictures_have_captions_of_their_own(captions, pictures):
    assert len(captions) == len(pictures)
    assert len({caption.text for caption in captions}) > 2


def test_one_image_is_as_in_a_list(captioner, captions, pictures):
    assert_same(captioner.caption(pictures[2], THREE), captions[2])
    assert_same(captioner.caption((pictures[2],), THREE)[0], captions[2])


def test_a_file_is_as_its_pixels(captioner, captions, pictures, tmp_path):
    picture = Image.fromarray(pictures[3])
    picture.save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), picture):
        assert_same(captioner.caption(source, THREE), captions[3])


@pytest.mark.parametrize("batch", [2, 3, 7])
def test_many_images_are_as_one_at_a_time(captioner, captions, pictures, monkeypatch, batch):
    monkeypatch.setattr(room, "BATCH", batch)
    for caption, same in zip(captioner.caption(pictures, THREE), captions, strict=True):
        assert_same(caption, same)


def test_no_images_have_no_captions(captioner):
    assert captioner.caption([]) == []


def test_an_encoder_of_its_own_is_asked_for_grids(captioner, captions, pictures, monkeypatch):
    monkeypatch.setattr(room, "BATCH", 3)
    apart = Captioner(
        captioner.model, captioner.tokenizer, encoder=captioner.model.encoder, image_size=32, options=THREE
    )
    assert apart.features(pictures).shape == (7, 4, 160)
    for caption, same in zip(apart.caption(pictures), captions, strict=True):
        assert caption.text == same.text


def test_a_caption_is_its_words(captions, captioner):
    for caption in captions:
        assert str(caption) == caption.text == " ".join(word.text for word in caption.words)
        assert len(caption.words) <= THREE.max_length
        assert {word.text for word in caption.words} <= set(captioner.tokenizer.words[4:])
        for word in caption.words:
            assert 0 < word.probability <= 1
            assert word.attention.shape == (2, 2)
            assert word.attention.sum() == pytest.approx(1, abs=1e-5)
            assert word.attention.min() >= 0


def test_alternatives_are_sorted_and_distinct(captions):
    for caption in captions:
        found = [caption, *caption.alternatives]
        assert len({each.text for each in found}) == len(found) == 3
        assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
        assert all(each.alternatives == () for each in caption.alternatives)


def test_one_caption_has_no_alternatives(captioner, pictures):
    assert captioner.caption(pictures[0]).alternatives == ()


def test_captions_that_do_not_exist_are_left_out(captioner, pictures):
    options = DecodeOptions(max_length=1, num_beams=6, num_captions=6, forbid=captioner.tokenizer.words[6:])
    found = captioner.caption(pictures[0], options)
    assert {each.text for each in (found, *found.alternatives)} == {"", *captioner.tokenizer.words[4:6]}


def test_forced_words_are_said_and_forbidden_ones_are_not(captioner, pictures, captions):
    said = captions[0].words[0].text
    unsaid = next(word for word in captioner.tokenizer.words[4:] if word not in captions[0].text.split())
    forced, forbidden = (
        captioner.caption(pictures[0], DecodeOptions(max_length=6, **{name: (word,)})).text.split()
        for name, word in (("force", unsaid.upper()), ("forbid", said))
    )
    assert unsaid in forced
    assert said not in forbidden


def test_a_word_never_learnt_cannot_be_forced(captioner, pictures):
    with pytest.raises(CaptioningError, match=r"--force zebra: .*never learnt.*choose"):
        captioner.caption(pictures[0], DecodeOptions(force=("a zebra",)))


def test_a_word_never_learnt_may_be_forbidden(captioner, pictures, captions):
    options = DecodeOptions(max_length=6, num_beams=3, num_captions=3, forbid=("zebra",))
    assert_same(captioner.caption(pictures[0], options), captions[0])


def test_no_special_word_can_be_forced(captioner, pictures):
    with pytest.raises(CaptioningError, match="--force unk"):
        captioner.caption(pictures[0], DecodeOptions(force=("<unk>",)))


def test_options_change_and_come_back_without_building_anew(captioner, pictures, monkeypatch):
    built = []
    monkeypatch.setattr(room, "Decoder", lambda model, rules: (built.append(rules), Recorder())[1])
    captioner = fresh(captioner)
    for options in (GREEDY, SHORT, GREEDY, None, SHORT, None, DecodeOptions(strategy="greedy")):
        with pytest.raises(Asked):
            captioner.caption(pictures[0], options)
    assert [rules.options for rules in built] == [GREEDY, SHORT, captioner.options]


GREEDY, SHORT = DecodeOptions(strategy="greedy"), DecodeOptions(max_length=2)


class Asked(Exception):  # noqa: N818
    pass


class Recorder:
    def search(self, features, chance):
        raise Asked


SAMPLES = DecodeOptions(strategy="sample", num_captions=1, max_length=6, temperature=4.0)


def test_another_seed_is_another_sample_of_the_same_search(captioner, pictures, monkeypatch):
    built, decoder = [], room.Decoder
    monkeypatch.setattr(room, "Decoder", lambda model, rules: (built.append(rules), decoder(model, rules))[1])
    captioner = fresh(captioner)
    told = [
        [caption.text for caption in captioner.caption(pictures, dataclasses.replace(SAMPLES, sampling_seed=seed))]
        for seed in (1, 2, 1)
    ]
    assert told[0] == told[2] != told[1]
    assert len(built) == 1


def test_batches_draw_samples_of_their_own(captioner, pictures, monkeypatch):
    monkeypatch.setattr(room, "BATCH", 2)
    told = captioner.caption([pictures[0]] * 8, SAMPLES)
    assert len({caption.text for caption in told}) > 2


def test_what_is_no_picture_is_refused(captioner, tmp_path):
    with pytest.raises(ImageError, match="does not exist"):
        captioner.caption(tmp_path / "none.jpg")
