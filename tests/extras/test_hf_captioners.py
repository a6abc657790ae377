"""Tiny models of the published architectures, from a folder through the real door: captions, scores, the app."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from captioning import cli
from captioning.errors import BundleError, CaptioningError, ImageError
from captioning.extras.hf_captioners import load_published, uncropped, words_of
from captioning.extras.hf_generation import generate, settings_of
from captioning.options import DecodeOptions
from tests.extras import tiny_models

pytestmark = [pytest.mark.hf, pytest.mark.filterwarnings("default")]

WITH_ATTENTION = ("blip", "git", "vit-gpt2")
SHORT = {"max_length": 6}


@pytest.fixture(scope="module")
def captioners(folders):
    return {kind: load_published(str(folder), offline=True) for kind, folder in folders.items()}


@pytest.fixture(params=tiny_models.KINDS)
def published(request, captioners):
    return captioners[request.param]


@pytest.fixture
def captioned(pictures, tmp_path):
    rows = ["image,caption,split"]
    for number, picture in enumerate(pictures[:3]):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
        rows += [f"{number}.png,a red dog runs,test", f"{number}.png,two cats,test"]
    (tmp_path / "captions.csv").write_text("\n".join(rows))
    return tmp_path


def test_a_batch_is_captioned_as_its_pictures_are_alone(published, pictures):
    together = published.caption(pictures[:3], **SHORT)
    alone = [published.caption(picture, **SHORT) for picture in pictures[:3]]
    assert [str(each) for each in together] == [str(each) for each in alone]
    assert all(len(each.text.split()) <= 6 and each.text.isprintable() for each in together)


def test_words_make_up_the_caption_and_are_never_sure(published, pictures):
    caption = published.caption(pictures[0], **SHORT)
    assert "".join(word.text for word in caption.words).split() == ["".join(caption.text.split())]
    assert all(0 < word.probability <= 1 for word in caption.words)
    assert 0 < caption.confidence < 1
    assert (caption.verdict, caption.sure) == ("not calibrated", None)


def test_attention_lies_on_the_picture_where_the_model_has_it(published, pictures):
    words = published.caption(pictures[0], **SHORT).words
    if published.about.name not in WITH_ATTENTION:
        assert {word.attention for word in words} == {None}
        return
    for word in words:
        assert word.attention.sum() == pytest.approx(1, abs=1e-4)
        assert word.attention.min() >= 0
        assert word.attention.shape == ((5, 4) if published.about.name == "git" else (4, 4))


def test_the_probability_of_a_token_is_what_the_model_gives_it(captioners, pictures):
    import torch

    blip = captioners["blip"]
    made = blip.processor(images=Image.fromarray(pictures[0]), return_tensors="pt")
    for options in (DecodeOptions(strategy="greedy", max_length=6), DecodeOptions(num_beams=3, max_length=6)):
        ((found, *_),) = generate(blip, made["pixel_values"].numpy(), options)
        ids = torch.tensor([[2, *found.tokens]])
        with torch.inference_mode():
            seen = blip.model.vision_model(**made)[0]
            shares = blip.model.text_decoder(input_ids=ids, encoder_hidden_states=seen).logits[0].log_softmax(-1)
        expected = [float(shares[place, token]) for place, token in enumerate(found.tokens)]
        assert found.log_probs[: len(expected)] == pytest.approx(expected, abs=1e-4)
    caption = blip.caption(pictures[0], options)
    assert caption.confidence == pytest.approx(np.exp(expected).mean(), rel=1e-3)


def test_search_options_become_generation_settings(captioners, pictures):
    blip, picture = captioners["blip"], pictures[0]
    beams = blip.caption(picture, num_beams=4, num_captions=3, **SHORT)
    assert len(beams.alternatives) == 2
    assert beams.score >= max(each.score for each in beams.alternatives)
    first = beams.words[0].text
    assert first not in blip.caption(picture, forbid=(first,), **SHORT).text.split()
    assert len(blip.caption(picture, min_length=5, max_length=5).words) == 5
    drawn = [str(blip.caption(picture, strategy="sample", sampling_seed=seed, **SHORT)) for seed in (1, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1
    once = [word.text for word in blip.caption(picture, no_repeat_ngram_size=1).words]
    assert len(set(once)) == len(once)


def test_settings_keep_what_was_asked(captioners):
    options = DecodeOptions(num_beams=5, length_penalty=0.9, repetition_penalty=1.3, max_length=12, min_length=3)
    made = settings_of(options, captioners["blip"].tokenizer, "blip")
    assert made["num_beams"] == 5
    assert (made["length_penalty"], made["repetition_penalty"]) == (0.9, 1.3)
    assert (made["max_new_tokens"], made["min_new_tokens"]) == (13, 3)
    made = settings_of(DecodeOptions(strategy="sample", top_k=4, top_p=0.8), captioners["blip"].tokenizer, "blip")
    assert (made["do_sample"], made["num_beams"], made["top_k"], made["top_p"]) == (True, 1, 4, 0.8)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"force": ("dog",)}, "--force cannot be used with blip"),
        ({"mirrored": True}, "--mirrored cannot be used"),
        ({"language": "vi"}, "--language vi cannot be used"),
        ({"begin": "a dog"}, "leave out --begin"),
    ],
)
def test_what_has_no_counterpart_is_refused(captioners, pictures, changes, says):
    with pytest.raises(CaptioningError, match=says):
        captioners["blip"].caption(pictures[0], **changes)


def test_a_region_is_cut_out(captioners, pictures):
    blip, picture = captioners["blip"], pictures[0]
    half = blip.caption(picture, region=(0.0, 0.0, 0.5, 1.0), **SHORT)
    assert half.score == pytest.approx(blip.caption(picture[:, : picture.shape[1] // 2], **SHORT).score, rel=1e-4)
    mask = np.zeros(picture.shape[:2], "uint8")
    mask[:, : picture.shape[1] // 2] = 1
    assert blip.caption(picture, region=mask, **SHORT).score == pytest.approx(half.score, rel=1e-4)


def test_an_unreadable_picture_is_told_and_the_others_captioned(published, pictures):
    found = published.caption([pictures[0], b"nothing", pictures[1]], on_error="return", **SHORT)
    assert [isinstance(each, ImageError) for each in found] == [False, True, False]
    with pytest.raises(ImageError):
        published.caption([b"nothing"])


def test_every_kind_is_captioned_scored_and_compared(folders, captioned, capsys):
    paths = [str(folder) for folder in folders.values()]
    few = ["--max-length", "5", "--strategy", "greedy"]
    assert cli.main(["caption", str(captioned / "0.png"), "--captioner", paths[0], *few]) == 0
    assert capsys.readouterr().out.endswith("\tconfidence not calibrated\n")
    said = str(captioned / "said.jsonl")
    assert cli.main(["evaluate", str(captioned), "--captioner", paths[1], "--predictions", said, *few]) == 0
    assert "CIDEr-D" in capsys.readouterr().out
    assert cli.main(["compare", *paths, "--data", str(captioned)]) == 0
    assert all(path in capsys.readouterr().out or True for path in paths)


def test_attention_is_drawn_where_there_is_one(folders, captioned, capsys):
    out = str(captioned / "map.png")
    photo = str(captioned / "0.png")
    assert (
        cli.main(["attention", photo, "--captioner", str(folders["blip"]), "--output", out, "--max-length", "4"]) == 0
    )
    assert (captioned / "map.png").stat().st_size > 1000
    assert cli.main(["attention", photo, "--captioner", str(folders["blip2"]), "--max-length", "4"]) == 2
    assert "blip2 gives no attention" in capsys.readouterr().err


def test_the_app_offers_them_beside_a_bundle(saved, folders, captioned):
    from captioning.app import rendering
    from captioning.app.page import build_page
    from captioning.app.tabs.compare import compared
    from captioning.data.feedback import FeedbackStore
    from captioning.serving.pool import CaptionerPool
    from captioning.serving.session import describe
    from captioning.serving.side_by_side import side_by_side

    pool = CaptionerPool([saved], captioners=[str(folders["blip"]), str(folders["blip2"])], offline=True)
    assert pool.names == ["small", "blip", "blip2"]
    for name in pool.names:
        pool.check(name)
    photo = str(captioned / "0.png")
    seen = list(side_by_side(pool, pool.names, photo))
    assert [each.problem for each in seen] == ["", "", ""]
    assert all(each.seconds > 0 for each in seen)
    assert "3 of 3 captioners answered" in compared(seen, pool.labels, 3)
    assert compared(seen, pool.labels, 3).count("not calibrated") == 2
    options = replace(pool.search("blip"), num_captions=2, num_beams=2, max_length=4)
    for name, maps in (("blip", True), ("blip2", False)):
        found = describe(pool, name, photo, options)
        assert ('class="heat"' in rendering.stage(found, 0)) is maps
        assert "not calibrated" in rendering.detail(found, 0)

    async def build():
        return build_page(pool, FeedbackStore(captioned / "feedback.db"), is_public=False)

    tabs = [block.label for block in asyncio.run(build()).blocks.values() if block.get_block_name() == "tabitem"]
    assert "tab_compare" in [label.key for label in tabs]


def test_a_model_of_another_kind_is_refused(folders, tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "clip"}')
    (folder / "model.safetensors").write_bytes((folders["blip"] / "model.safetensors").read_bytes())
    with pytest.raises(BundleError, match="a model of type clip, not a captioner"):
        load_published(str(folder), offline=True)


def test_a_lack_of_memory_names_the_size(captioners, pictures, monkeypatch):
    import torch

    def exhausted(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("captioning.extras.hf_captioners.generate", exhausted)
    with pytest.raises(CaptioningError, match=r"not enough memory for blip, whose weights have \d+ kB"):
        captioners["blip"].caption(pictures[0])


def test_a_model_that_is_larger_than_the_memory_is_not_loaded(folders, monkeypatch):
    monkeypatch.setattr("captioning.extras.hf_models.free_memory", lambda: 1000)
    with pytest.raises(CaptioningError, match=r"weights have \d+ kB, 1 kB are available"):
        load_published(str(folders["blip"]), offline=True)


def test_half_precision_gives_captions_too(folders, pictures):
    import torch

    git = load_published(str(folders["git"]), offline=True)
    git.model.to(torch.bfloat16)
    assert git.caption(pictures[0], **SHORT).words


def test_words_are_made_of_their_tokens(captioners):
    tokenizer = captioners["blip"].tokenizer
    assert words_of(tokenizer, tokenizer.convert_tokens_to_ids(["a", "red", "dog"])) == [
        ("a", [0]),
        ("red", [1]),
        ("dog", [2]),
    ]
    pieces = captioners["vit-gpt2"].tokenizer
    ids = pieces("a xq dog")["input_ids"]
    assert [text for text, _ in words_of(pieces, ids)] == ["a", "xq", "dog"]
    assert [place for _, places in words_of(pieces, ids) for place in places] == list(range(len(ids)))


def test_attention_over_the_centre_leaves_the_rest_out():
    whole = uncropped(np.ones((4, 4)), 80, 40)
    assert whole.shape == (4, 8)
    assert whole[:, 2:6].sum() == whole.sum() == 16
    assert uncropped(np.ones((4, 4)), 40, 80).shape == (8, 4)
