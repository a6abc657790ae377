"""One image, the same image in a list, as a file, among many: the same caption, made of words that add up."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from captioning.errors import CaptioningError, ImageError
from captioning.inference import captioner as room
from captioning.inference import engine_keras
from captioning.inference.captioner import Captioner
from captioning.inference.confidence import Calibration, signals
from captioning.inference.regions import regions_within
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


def fresh(captioner, **others) -> Captioner:
    usual = {"image_size": captioner.image_size, "options": captioner.options}
    return Captioner(engine_keras.KerasEngine(captioner.model), captioner.tokenizer, **usual | others)


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
    engine = engine_keras.KerasEngine(captioner.model, captioner.model.encoder)
    apart = Captioner(engine, captioner.tokenizer, image_size=32, options=THREE)
    assert apart.features(pictures).shape == (7, 9, 128)
    for caption, same in zip(apart.caption(pictures), captions, strict=True):
        assert caption.text == same.text


def test_a_caption_is_its_words(captions, captioner):
    for caption in captions:
        assert str(caption) == caption.text == " ".join(word.text for word in caption.words)
        assert len(caption.words) <= THREE.max_length
        assert {word.text for word in caption.words} <= set(captioner.tokenizer.words[4:])
        for word in caption.words:
            assert 0 < word.probability <= 1
            assert word.attention.shape == (3, 3)
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
    with pytest.raises(CaptioningError, match=r"--force zebra: the vocabulary .* lacks that word; choose"):
        captioner.caption(pictures[0], DecodeOptions(force=("a zebra",)))


def test_a_word_never_learnt_may_be_forbidden(captioner, pictures, captions):
    options = DecodeOptions(max_length=6, num_beams=3, num_captions=3, forbid=("zebra",))
    assert_same(captioner.caption(pictures[0], options), captions[0])


def test_no_special_word_can_be_forced(captioner, pictures):
    with pytest.raises(CaptioningError, match="--force unk"):
        captioner.caption(pictures[0], DecodeOptions(force=("<unk>",)))


def test_options_change_and_come_back_without_building_anew(captioner, pictures, monkeypatch):
    built = []
    monkeypatch.setattr(engine_keras, "CaptionSearch", lambda model, rules, jit: (built.append(rules), Recorder())[1])
    captioner = fresh(captioner)
    for options in (GREEDY, SHORT, GREEDY, None, SHORT, None, DecodeOptions(strategy="greedy")):
        with pytest.raises(Asked):
            captioner.caption(pictures[0], options)
    assert [(rules.options.strategy, rules.options.max_length) for rules in built] == [
        ("greedy", 20),
        ("beam", 2),
        ("beam", captioner.options.max_length),
    ]


GREEDY, SHORT = DecodeOptions(strategy="greedy"), DecodeOptions(max_length=2)


class Asked(Exception):  # noqa: N818
    pass


class Recorder:
    def search(self, features, rng):
        raise Asked


SAMPLES = DecodeOptions(strategy="sample", num_captions=1, max_length=6, temperature=4.0)


def test_another_seed_is_another_sample_of_the_same_search(captioner, pictures, monkeypatch):
    built, decoder = [], engine_keras.CaptionSearch
    counted = lambda model, rules, jit: (built.append(rules), decoder(model, rules, jit=jit))[1]  # noqa: E731
    monkeypatch.setattr(engine_keras, "CaptionSearch", counted)
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


def test_a_search_asked_for_often_is_compiled_once_more_and_says_the_same(captioner, pictures, monkeypatch):
    monkeypatch.setattr(room, "BATCH", 2)
    monkeypatch.setattr(engine_keras, "MANY", 2)
    built, decoder = [], engine_keras.CaptionSearch
    monkeypatch.setattr(
        engine_keras, "CaptionSearch", lambda model, rules, jit: (built.append(jit), decoder(model, rules, jit=jit))[1]
    )
    captioner, grids = fresh(captioner), captioner.features(pictures[:2])
    told = [captioner.caption_features(grids, GREEDY) for _ in range(4)]
    assert built == [False, True]
    for captions in told[1:]:
        for one, other in zip(captions, told[0], strict=True):
            assert_same(one, other)
    captioner.caption_features(grids[:1], GREEDY)
    assert built == [False, True]


def test_an_image_is_looked_at_once(captioner, pictures, monkeypatch):
    looks, look = [], captioner.encoder.predict_on_batch
    monkeypatch.setattr(captioner.encoder, "predict_on_batch", lambda batch: (looks.append(len(batch)), look(batch))[1])
    captioner = fresh(captioner)
    for options in (GREEDY, SHORT, None):
        captioner.caption(pictures[0], options)
    captioner.caption([*pictures[:3], pictures[0]])
    assert looks == [1, 2]


def test_the_mirror_image_is_looked_at_too(captioner, pictures):
    twice = dataclasses.replace(GREEDY, mirrored=True)
    turned = [picture[:, ::-1] for picture in pictures[:2]]
    seen, mirrored = (captioner.features(images).reshape(2, 3, 3, -1) for images in (pictures[:2], turned))
    both = captioner.features(pictures[:2], twice)
    np.testing.assert_allclose(both, ((seen + mirrored[:, :, ::-1]) / 2).reshape(both.shape), atol=1e-5)
    captions = captioner.caption(pictures[:2], twice)
    assert [each.score for each in captions] == [each.score for each in captioner.caption_features(both, GREEDY)]
    assert [each.score for each in captions] != [each.score for each in captioner.caption(pictures[:2], GREEDY)]
    default = fresh(captioner, options=twice)
    assert [str(each) for each in default.caption(pictures[:2])] == [str(each) for each in captions]
    told, of_both = (captioner.alternatives(pictures[0], captions[0], options) for options in (GREEDY, twice))
    assert told != of_both


def test_the_grids_of_the_last_images_are_kept_and_no_more(captioner, pictures, monkeypatch):
    monkeypatch.setattr(room, "KEPT", 2)
    captioner = fresh(captioner)
    grids = captioner.features(pictures)
    assert len(captioner._grids) == 2
    np.testing.assert_allclose(captioner.features(pictures[:1])[0], grids[0], atol=1e-5)


def test_a_caption_begins_as_told(captioner, pictures, captions):
    words = [word.text for word in captions[0].words]
    begun = captioner.caption(pictures[0], THREE, begin=" ".join(words[:2]))
    assert begun.text == captions[0].text
    assert all(each.words[1].text == words[1] for each in begun.alternatives)
    other = captioner.alternatives(pictures[0], captions[0])[1][0][0]
    changed = captioner.caption(pictures[0], THREE, begin=f"{words[0]} {other}")
    assert [word.text for word in changed.words[:2]] == [words[0], other]


@pytest.mark.parametrize(
    ("begin", "match"), [("a zebra", "vocabulary of this captioner lacks it"), ("ball " * 7, "do not fit")]
)
def test_a_beginning_that_cannot_be(captioner, pictures, begin, match):
    with pytest.raises(CaptioningError, match=match):
        captioner.caption(pictures[0], THREE, begin=begin)


def test_alternatives_are_the_likeliest_words_but_the_one_said(captioner, pictures, captions):
    found = captioner.alternatives(pictures[0], captions[0], count=3)
    assert len(found) == len(captions[0].words) + 1
    everything = captioner.alternatives(pictures[0], captions[0], count=len(captioner.tokenizer))
    for word, others, likeliest in zip(captions[0].words, everything, found, strict=False):
        assert word.text not in dict(others)
        assert others[:3] == likeliest
        assert [share for _, share in others] == sorted((share for _, share in others), reverse=True)
        assert (
            0.5 < word.probability + sum(share for _, share in others) <= 1.001
        )  # the rest goes to <unk> and the like


def test_only_the_region_is_looked_at(captioner, pictures):
    corner = captioner.caption(pictures[0], THREE, region=(0.67, 0.0, 1.0, 0.33))
    mask = np.zeros((40, 48))
    mask[:13, 33:] = 1
    assert_same(captioner.caption(pictures[0], THREE, region=mask), corner)
    for word in corner.words:
        np.testing.assert_allclose(word.attention, [[0, 0, 1], [0, 0, 0], [0, 0, 0]], atol=1e-6)
    assert_same(captioner.caption(pictures[0], THREE, region=(0, 0, 1, 1)), captioner.caption(pictures[0], THREE))


@pytest.mark.parametrize(
    ("region", "rows"),
    [
        ((0.0, 0.0, 0.5, 1.0), ["##..", "##..", "##..", "##.."]),
        ((0.3, 0.3, 0.4, 0.4), ["....", ".#..", "....", "...."]),
        ((0.0, 0.75, 1.0, 1.0), ["....", "....", "....", "####"]),
        ((-1.0, -1.0, 0.3, 0.3), ["#...", "....", "....", "...."]),
    ],
)
def test_the_regions_within_a_box(region, rows):
    assert ["".join(".#"[cell] for cell in row) for row in regions_within(region, 4).astype(int)] == rows


@pytest.mark.parametrize("region", [(0.5, 0.5, 0.5, 0.6), (1.1, 0.0, 1.4, 1.0), np.zeros((9, 9))])
def test_an_empty_region_is_refused(region):
    with pytest.raises(CaptioningError, match="empty or outside"):
        regions_within(region, 4)


def test_confidence_comes_with_the_bundle_and_with_beams(captioner, pictures):
    assert captioner.caption(pictures[0]).confidence is None
    sure = Captioner(
        captioner.engine,
        captioner.tokenizer,
        image_size=32,
        options=THREE,
        calibration=Calibration(bias=1.0, likelihood=2.0, agreement=0.5),
    )
    best = sure.caption(pictures[0])
    assert best.confidence == sure.calibration.confidence(*signals(best, best.alternatives))
    one = sure.caption(pictures[0], dataclasses.replace(THREE, num_captions=1))
    assert one.alternatives == ()
    assert one.confidence == pytest.approx(best.confidence)
    assert sure.caption(pictures[0], GREEDY).confidence is None


@pytest.mark.parametrize("poison", [np.nan, np.inf])
@pytest.mark.parametrize("strategy", ["beam", "greedy", "sample"])
def test_numbers_that_are_none_are_an_error_and_no_caption(captioner, pictures, strategy, poison):
    options = DecodeOptions(strategy=strategy, max_length=6)
    captioner.caption(pictures[0], options)
    weights = captioner.model.head.get_weights()
    try:
        captioner.model.head.set_weights([weights[0], np.full_like(weights[1], poison)])
        with pytest.raises(CaptioningError, match="produced NaN for this image"):
            captioner.caption(pictures[:2], options)
    finally:
        captioner.model.head.set_weights(weights)
    assert captioner.caption(pictures[0], options).text


def test_what_is_no_picture_is_refused(captioner, tmp_path):
    with pytest.raises(ImageError, match="does not exist"):
        captioner.caption(tmp_path / "none.jpg")
