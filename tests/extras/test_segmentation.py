"""Tiny Mask2Former, MaskFormer, DETR and SegFormer, from a folder through the real door: masks, labels and scores."""

import json

import numpy as np
import pytest

from captioning import cli
from captioning.errors import BundleError, CaptioningError
from captioning.extras import segmentation
from captioning.extras.segmentation import class_shares, load_segmenter
from tests.extras import tiny_models, tiny_segmenters

pytestmark = [pytest.mark.hf, pytest.mark.filterwarnings("default")]

EVERY = [(kind, task) for kind in ("mask2former", "maskformer") for task in segmentation.TASKS]
EVERY += [("detr", "panoptic"), ("segformer", "semantic")]


@pytest.fixture(scope="module")
def saved_models(tmp_path_factory):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("segmenters")
    return {kind: tiny_segmenters.save(kind, place) for kind in tiny_segmenters.MAKERS}


@pytest.mark.parametrize(("kind", "task"), EVERY)
def test_segments_have_the_size_of_the_picture_and_at_least_the_score(saved_models, pictures, kind, task):
    segmenter = load_segmenter(str(saved_models[kind]), offline=True, task=task)
    found = segmenter.segments(pictures[0], threshold=0.0)
    assert segmenter.name == kind
    assert all(each.mask.shape == (48, 40) and each.mask.dtype == bool and each.area for each in found)
    assert all(each.label in tiny_segmenters.NAMES.values() and 0 <= each.score <= 1 for each in found)
    scores = [each.score for each in found]
    assert scores == sorted(scores, reverse=True)
    least = max(scores, default=0.5) - 0.001
    assert all(each.score >= least for each in segmenter.segments(pictures[0], threshold=least))
    if task == "semantic":
        assert (sum(each.mask.astype(int) for each in found) == 1).all()  # every pixel has one class


def outputs_of(segmenter, kind):
    """Outputs of a model that is certain: query 0 is a dog in the left half, query 1 the sky in the right half."""
    import torch

    left = torch.full((1, 2, 16, 16), -20.0)
    left[0, 0, :, :8] = left[0, 1, :, 8:] = 20.0
    classes = torch.full((1, 2, 4), -20.0)
    classes[0, 0, 1] = classes[0, 1, 2] = 20.0
    from transformers.utils import ModelOutput

    if kind == "segformer":
        places = torch.full((1, 3, 16, 16), -20.0)
        places[0, 1, :, :8] = places[0, 2, :, 8:] = 20.0
        return ModelOutput(logits=places)
    if kind == "detr":
        return ModelOutput(logits=classes, pred_masks=left)
    return ModelOutput(class_queries_logits=classes, masks_queries_logits=left)


@pytest.mark.parametrize(("kind", "task"), EVERY)
def test_what_a_model_is_certain_of_is_found_where_it_is(saved_models, pictures, kind, task, monkeypatch):
    segmenter = load_segmenter(str(saved_models[kind]), offline=True, task=task)
    monkeypatch.setattr(type(segmenter.model), "forward", lambda self, **_: outputs_of(segmenter, kind))
    found = {each.label: each for each in segmenter.segments(pictures[0])}
    assert set(found) == {"dog", "sky"}
    assert min(each.score for each in found.values()) > 0.95
    half = np.arange(40) < 20
    for label, expected in (("dog", half), ("sky", ~half)):
        assert (found[label].mask == expected).mean() > 0.95, label


def test_a_class_of_segformer_has_the_mean_probability_of_its_pixels(saved_models, pictures):
    import torch

    segmenter = load_segmenter(str(saved_models["segformer"]), offline=True)
    found = segmenter.segments(pictures[0], threshold=0)
    inputs = segmenter.processor(images=pictures[0], return_tensors="pt", input_data_format="channels_last")
    with torch.inference_mode():
        shares = segmenter.model(**inputs).logits.softmax(1)
    shares = torch.nn.functional.interpolate(shares, size=(48, 40), mode="bilinear", align_corners=False)[0].numpy()
    for each in found:
        number = next(number for number, name in tiny_segmenters.NAMES.items() if name == each.label)
        assert each.score == pytest.approx(shares[number][each.mask].mean(), abs=1e-5)


def test_the_probabilities_of_the_classes_sum_to_one_at_every_place(saved_models):
    segmenter = load_segmenter(str(saved_models["mask2former"]), offline=True)
    assert class_shares(outputs_of(segmenter, "mask2former")).sum(0).numpy() == pytest.approx(1, abs=1e-5)


def test_a_large_picture_is_computed_small_and_its_masks_are_enlarged(saved_models, monkeypatch):
    monkeypatch.setattr(segmentation, "LONGEST", 32)
    segmenter = load_segmenter(str(saved_models["segformer"]), offline=True)
    picture = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype="uint8")
    assert {each.mask.shape for each in segmenter.segments(picture, threshold=0)} == {(90, 130)}


def test_the_task_is_that_of_the_name_or_the_one_given(saved_models, tmp_path):
    assert load_segmenter(str(saved_models["mask2former"]), offline=True).task == "panoptic"
    named = tmp_path / "mask2former-instance"
    named.symlink_to(saved_models["mask2former"])
    assert load_segmenter(str(named), offline=True).task == "instance"
    with pytest.raises(CaptioningError, match="it can be asked for semantic, not for instance"):
        load_segmenter(str(saved_models["segformer"]), offline=True, task="instance")


def test_weights_that_give_nan_are_told(saved_models, pictures):
    import torch

    segmenter = load_segmenter(str(saved_models["segformer"]), offline=True)
    with torch.no_grad():
        segmenter.model.decode_head.classifier.weight.fill_(float("nan"))
    with pytest.raises(CaptioningError, match="produced NaN"):
        segmenter.segments(pictures[0])


def test_half_precision_finds_segments_too(saved_models, pictures):
    import torch

    segmenter = load_segmenter(str(saved_models["segformer"]), offline=True)
    segmenter.model.to(torch.bfloat16)
    assert segmenter.segments(pictures[0], threshold=0)


def test_a_captioner_is_not_taken_for_a_segmenter(tmp_path):
    with pytest.raises(BundleError, match="is a BlipForConditionalGeneration, which finds no segments"):
        load_segmenter(str(tiny_models.save("blip", tmp_path)), offline=True)


def test_the_command_line_writes_what_a_model_finds(saved_models, photo, tmp_path, capsys):
    output = tmp_path / "segments.json"
    flags = ["--model", str(saved_models["segformer"]), "--threshold", "0", "--offline", "--output", str(output)]
    assert cli.main(["segment", photo, *flags]) == 0
    assert "%" in capsys.readouterr().out
    found = json.loads(output.read_text())
    assert sum(each["area"] for each in found["annotations"]) == 48 * 40
