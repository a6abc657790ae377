"""Which captioner is offered first and what it is called; nothing of it depends on the folder's name."""

import hashlib
import itertools
import json
import os
import random
from pathlib import Path

import pytest

from captioning.serving.offer import Offer, is_cached, labels, rank, read_offer
from captioning.serving.pool import CaptionerPool, find_bundles

ARTIFACTS = Path(__file__).parents[2] / "artifacts"


@pytest.fixture(autouse=True)
def no_weights(monkeypatch, tmp_path):
    """A Keras that has fetched nothing."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


def bundle(folder, *, data="flickr8k", score=0.5, whole=True, calibrated=True, split="dev"):
    folder.mkdir(parents=True)
    encoder = {"name": "mobilenetv2", "trained": True, "whole": whole}
    config = {"encoder": encoder, "calibration": {"bias": 1.0} if calibrated else None, "about": {"data": data}}
    scores = {"CIDEr-D": {"value": score, "low": score - 0.04}, "BLEU-4": {"value": score / 2}}
    cards = json.dumps({split: {"images": 1000, "scores": scores}})
    (folder / "scores.json").write_text(cards)
    files = {"scores.json": hashlib.sha256(cards.encode()).hexdigest()}
    (folder / "config.json").write_text(json.dumps(config | {"format": 1, "files": files}))
    return folder


@pytest.mark.parametrize("seed", range(4))
def test_the_best_that_opens_without_a_download_comes_first_whatever_it_is_called(tmp_path, seed):
    names = list("abcdef")
    random.Random(seed).shuffle(names)
    wanted = [
        {"score": 0.6},
        {"score": 0.4, "split": "test"},
        {"score": 0.9, "calibrated": False},
        {"score": 2.0, "data": "scenes"},
        {"score": 0.9, "whole": False},
        {"score": 3.0, "data": "scenes-smoke", "whole": False},
    ]
    folders = [bundle(tmp_path / name, **kind) for name, kind in zip(names, wanted, strict=True)]
    assert find_bundles(tmp_path) == folders
    assert find_bundles(tmp_path, encoder_weights="mine.h5")[0] == folders[4]  # whose encoder is at hand then
    assert CaptionerPool(folders[::-1]).names == names[::-1]  # bundles that are named keep their order


def test_weights_that_keras_has_fetched_need_no_download(tmp_path):
    offer = Offer("a", encoder="mobilenetv2")
    assert offer.needs_download("imagenet")
    assert not Offer("a", encoder="mobilenetv2", has_encoder=True).needs_download("imagenet")
    models = tmp_path / "keras" / "models"
    models.mkdir(parents=True)
    for name in (
        "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
        "efficientnetv2-b0_notop.h5",
        "resnet101_weights_tf_dim_ordering_tf_kernels.h5",  # with its top: not what an encoder is made of
    ):
        (models / name).write_bytes(b"")
    assert not offer.needs_download("imagenet")
    cached = {name: is_cached(name) for name in ("resnet50", "efficientnetv2b0", "resnet101", "mobilenet", "tiny", "")}
    assert cached == {name: name in ("resnet50", "efficientnetv2b0") for name in cached}


def test_a_captioner_is_called_by_what_it_is_good_for_and_its_score(tmp_path):
    offers = {
        kind: read_offer(bundle(tmp_path / kind, data=data, score=score, whole=kind != "lean"))
        for kind, data, score in (
            ("one", "Flickr8k", 0.4756),
            ("two", "flickr8k", 0.4756),
            ("lean", "coco", 0.9),
            ("drawn", "scenes-smoke", 2.5),
            ("own", "holiday photos", 0.3),
        )
    }
    offers["none"] = Offer("none")
    assert labels(offers.values()) == {
        "one": "Photographs (Flickr8k), CIDEr-D 0.476 (one)",  # two are called alike
        "two": "Photographs (Flickr8k), CIDEr-D 0.476 (two)",
        "lean": "Photographs (COCO), CIDEr-D 0.900, needs a download",
        "drawn": "Drawn scenes, CIDEr-D 2.500",
        "own": "Pictures like holiday photos, CIDEr-D 0.300",
        "none": "none, needs a download",
    }
    sentence = offers["one"].sentence("imagenet")
    assert sentence == (
        "Good for photographs of people and animals. CIDEr-D 0.476 and BLEU-4 0.238 on 1,000 validation pictures."
    )
    assert "mobilenetv2) are downloaded" in offers["lean"].sentence("imagenet")
    assert "downloaded" not in offers["lean"].sentence("mine.h5")
    assert "does not say" in offers["none"].sentence("imagenet")
    assert {kind: offer.is_drawn for kind, offer in offers.items() if offer.is_drawn} == {"drawn": True}


def test_the_best_of_those_that_come_along_is_offered_first():
    first, *others = map(read_offer, find_bundles(ARTIFACTS))
    assert first.has_encoder
    assert first.is_calibrated
    assert first.low == max(each.low for each in (first, *others) if each.has_encoder and not each.is_drawn)


ODD = [None, [], "x", 7, {}, {"dev": []}, {"dev": {"scores": {"CIDEr-D": {"value": "x", "low": float("nan")}}}}]


@pytest.mark.parametrize(("config", "scores"), list(itertools.product(ODD, ODD)))
def test_what_cannot_be_read_counts_as_unknown(tmp_path, config, scores):
    cards = json.dumps(scores)
    listed = {"format": 1, "files": {"scores.json": hashlib.sha256(cards.encode()).hexdigest()}}
    (tmp_path / "config.json").write_text(json.dumps(config | listed if isinstance(config, dict) else config))
    (tmp_path / "scores.json").write_text(cards)
    offer = read_offer(tmp_path)
    assert (offer.score, offer.low, offer.data) == (None, None, "")
    assert rank(offer) > rank(Offer("zzz", has_encoder=True))
    assert offer.label("imagenet")
    assert offer.sentence("imagenet")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_scores_are_read_from_no_link_and_no_pipe(tmp_path):
    """A pipe would keep the app from starting."""
    folder = bundle(tmp_path / "a")
    assert read_offer(folder).score == 0.5
    (folder / "scores.json").rename(tmp_path / "elsewhere.json")
    (folder / "scores.json").symlink_to(tmp_path / "elsewhere.json")
    assert read_offer(folder).score is None
    (folder / "scores.json").unlink()
    os.mkfifo(folder / "scores.json")
    assert read_offer(folder).score is None


@pytest.mark.parametrize(
    ("about", "says"),
    [
        ({"data": "holiday"}, "holiday"),
        ({"data": "holiday", "base": "flickr8k", "calibration": "dev"}, "holiday"),
        ({"data": "holiday", "base": "flickr8k", "calibration": "base model"}, "that of its base model flickr8k"),
    ],
)
def test_it_says_whose_pictures_its_confidence_was_measured_on(tmp_path, about, says):
    folder = bundle(tmp_path / "mine")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"about": about}))
    assert read_offer(folder).calibrated_on == says
