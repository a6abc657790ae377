"""What is measured on captioned images: a calibration and familiar images; both are written into a bundle."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import captioning
from captioning import cli
from captioning.data.load import load_dataset
from captioning.encoders.features import Features
from captioning.errors import DataError
from captioning.evaluation.calibration import are_good, calibrate_bundle, caption_cached, measure, with_all_beams
from captioning.inference import bundle
from captioning.inference.familiarity import LEAST_IMAGES
from captioning.options import DataOptions, DecodeOptions

REFERENCES = [["a dog runs", "a brown dog runs"], ["two boys play", "two boys play ball"], ["a red car", "one red car"]]
PHOTOGRAPHS = "CAPTIONING_COCO72"  # a folder with 72 photographs of COCO and five captions of each
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def photos(captioner, tmp_path_factory):
    """A captioned folder of 120 images; half of the references are what the captioner says, half are not."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    pictures = rng.integers(0, 256, (LEAST_IMAGES + 20, 32, 32, 3), dtype="uint8")
    lines = []
    for number, (pixels, caption) in enumerate(zip(pictures, captioner.caption(list(pictures)), strict=True)):
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
        texts = (f"{caption} dog", f"{caption} cat") if number % 2 else ("two red cars in bed", "two red balls in bed")
        lines += [json.dumps({"file_name": f"{number:03}.png", "captions": texts, "split": "dev"})]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def dev_of(folder: Path) -> dict[Path, list[str]]:
    return load_dataset(DataOptions(data=str(folder)), Path("data"))[0].splits["dev"]


def test_a_good_caption_is_like_peoples():
    assert are_good(["a dog runs", "a red car", "a red car"], REFERENCES) == [True, False, True]
    assert are_good(["a dog"], [["a dog runs"]]) is None


def test_a_beam_search_gives_all_its_beams():
    assert with_all_beams(DecodeOptions(num_beams=5)).num_captions == 5
    assert with_all_beams(DecodeOptions(strategy="greedy")).num_captions == 1


@pytest.mark.parametrize("mirrored", [False, True])
def test_pixels_and_grids_give_the_same_captions_and_means(captioner, photos, mirrored):
    images = list(dev_of(photos))[:7]
    pixels = np.stack([np.asarray(Image.open(image)) for image in images])
    rows = {image: row for row, image in enumerate(images)}
    options = DecodeOptions(max_length=6, mirrored=mirrored)
    one, means = caption_cached(captioner, Features(pixels, rows), images, options)
    other, same = caption_cached(captioner, Features(captioner.features(images), rows), images, options)
    assert [caption.text for caption in one] == [caption.text for caption in other]
    np.testing.assert_allclose(means, same, atol=1e-5)
    np.testing.assert_allclose(means, captioner.features(images, options).mean(axis=1), atol=1e-5)


def test_a_bundle_is_saved_with_the_images_it_knows(parts, captioner, photos, tmp_path):
    means = captioner.features(list(dev_of(photos))).mean(axis=1)
    known = measure([], means, [["a"]]).familiarity
    bundle.save(tmp_path / "knows", replace(parts, familiarity=known), files={"scores.json": "{}"}, about={})
    back = captioning.load(tmp_path / "knows").familiarity
    assert back.limit == known.limit
    assert np.array_equal(back.directions, known.directions)
    assert captioning.load(tmp_path / "knows", tmp_path / "knows").familiarity is None  # an ensemble


def test_few_images_are_familiar_with_nothing(captioner, photos):
    images = list(dev_of(photos))[:7]
    captions, means = captioner.caption(images), captioner.features(images).mean(axis=1)
    measured = measure(captions, means, [["a", "b"]] * 7)
    assert measured == (None, None, None)
    assert measured.text() == "no calibration, no familiar images"


def test_a_bundle_is_calibrated_by_a_command(photos, copy, capsys):
    assert captioning.load(copy).caption(photos / "000.png").verdict == "unknown"
    before = {path.name: path.read_bytes() for path in copy.iterdir() if path.name != "config.json"}
    (photos / "119.png").write_bytes(b"")
    assert cli.main(["calibrate", str(copy), str(photos)]) == 0
    said, warned = capsys.readouterr()
    assert "1 of 120 images left out" in warned
    assert said.startswith(f"{copy}: calibration error 0.")
    assert ", unfamiliar beyond 0." in said
    assert {path.name: path.read_bytes() for path in copy.iterdir() if path.name != "config.json"} == before
    captioner = captioning.load(copy)
    captions = captioner.caption(list(dev_of(photos))[:-1])
    assert np.mean([caption.familiar for caption in captions]) > 0.95
    assert all(0 <= caption.confidence <= 1 for caption in captions)
    assert captioner.caption(photos / "000.png", strategy="greedy").verdict in ("unknown", "unfamiliar")
    other = captioner.caption_features(-captioner.features([photos / "000.png"]))[0]
    assert (other.familiar, other.sure, other.verdict) == (False, False, "unfamiliar")
    record = json.loads((copy / "config.json").read_text())
    assert record["about"] == {"seed": 1, "calibration": "dev", "calibrated_on": photos.name}


def test_too_few_images_leave_the_bundle_as_it_is(photos, copy):
    before = (copy / "config.json").read_bytes()
    few = dict(list(dev_of(photos).items())[: LEAST_IMAGES - 1])
    with pytest.raises(DataError, match=r"99 images do not suffice: 100 with two captions .* or give more data\.$"):
        calibrate_bundle(copy, captioning.load(copy), few, data="photos")
    assert (copy / "config.json").read_bytes() == before


@pytest.mark.slow
@pytest.mark.skipif(PHOTOGRAPHS not in os.environ, reason=f"{PHOTOGRAPHS} does not name a folder")
def test_confidence_tells_good_captions_of_other_photographs_from_bad_ones():
    """Area under the ROC curve: the share of pairs of a good and a bad caption in which the good one is likelier."""
    split = dev_of(Path(os.environ[PHOTOGRAPHS]))
    captions = captioning.load(ROOT / "artifacts" / "flickr8k").caption(list(split))
    good = np.array(are_good(captions, list(split.values())))
    given = np.array([caption.confidence - (caption.familiar is False) for caption in captions])
    above = given[good][:, None] - given[~good][None]
    assert (np.mean(above > 0) + np.mean(above == 0) / 2) >= 0.75
