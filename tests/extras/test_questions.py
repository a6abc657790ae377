"""Tiny BLIP-VQA, BLIP-2 and ViLT, from a folder through the real door: answers and their probabilities."""

import numpy as np
import pytest
from PIL import Image

from captioning import cli
from captioning.errors import BundleError, CaptioningError, ImageError
from captioning.extras.questions import LONGEST_ANSWER, NUM_BEAMS, load_answerer
from tests.extras import tiny_models

pytestmark = [pytest.mark.hf, pytest.mark.filterwarnings("default")]

KINDS = ("blip-vqa", "blip2", "vilt")


@pytest.fixture(scope="module")
def saved_models(tmp_path_factory):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("answerers")
    return {kind: tiny_models.save(kind, place) for kind in (*KINDS, "blip")}


@pytest.fixture(scope="module")
def answerers(saved_models):
    return {kind: load_answerer(str(saved_models[kind]), offline=True) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_every_question_has_an_answer_that_is_the_same_alone(answerers, pictures, kind):
    questions = ["a red dog?", "two cats on the grass?"]
    found = answerers[kind].answer(pictures[0], questions)
    assert [each.question for each in found] == questions
    assert all(0 < each.probability <= 1 and each.text.isprintable() and each.model == kind for each in found)
    [alone] = answerers[kind].answer(pictures[0], questions[1:])
    assert (alone.text, alone.probability) == (found[1].text, pytest.approx(found[1].probability, abs=1e-5))
    assert found[0].record()["verdict"] == "not calibrated"


def test_vilt_gives_the_probability_of_its_classes(answerers, pictures):
    import torch

    vilt = answerers["vilt"]
    [found] = vilt.answer(pictures[0], ["a red dog?"])
    inputs = vilt.processor(Image.fromarray(pictures[0]), "a red dog?", return_tensors="pt")
    with torch.inference_mode():
        shares = vilt.model(**inputs).logits[0].sigmoid().numpy()
    best = int(shares.argmax())
    assert (found.text, found.probability) == (vilt.model.config.id2label[best], pytest.approx(shares[best], abs=1e-5))
    others = [share for _, share in found.others]
    assert sorted([found.probability, *others], reverse=True) == [found.probability, *others]
    assert len(others) == 3


def test_blip_gives_the_mean_probability_of_the_tokens_it_generates(answerers, pictures):
    import torch

    blip = answerers["blip-vqa"]
    [found] = blip.answer(pictures[0], ["a red dog?"])
    inputs = blip.processor(images=Image.fromarray(pictures[0]), text="a red dog?", return_tensors="pt")
    with torch.inference_mode():
        made = blip.model.generate(**inputs, num_beams=NUM_BEAMS, max_new_tokens=LONGEST_ANSWER, do_sample=False)
        start, *ids = made[0].tolist()
        assert blip.processor.tokenizer.decode(ids, skip_special_tokens=True) == found.text
        ids = ids[: ids.index(blip.processor.tokenizer.sep_token_id)] if 3 in ids else ids
        seen = blip.model.vision_model(pixel_values=inputs["pixel_values"])[0]
        asked = blip.model.text_encoder(input_ids=inputs["input_ids"], encoder_hidden_states=seen)[0]
        made = blip.model.text_decoder(input_ids=torch.tensor([[start, *ids]]), encoder_hidden_states=asked)
    shares = made.logits[0].softmax(-1)
    expected = np.mean([float(shares[place, token]) for place, token in enumerate(ids)])
    assert found.probability == pytest.approx(expected, rel=1e-3)


def test_what_blip2_generates_has_no_prompt_in_it(answerers, pictures):
    [found] = answerers["blip2"].answer(pictures[0], ["a dog?"])
    assert "Question" not in found.text


def test_an_answer_is_no_longer_than_it_may_be(answerers, pictures):
    [found] = answerers["blip-vqa"].answer(pictures[0], ["a dog?"])
    assert len(found.text.split()) <= LONGEST_ANSWER


def test_a_question_of_too_many_tokens_is_refused(answerers, pictures):
    with pytest.raises(CaptioningError, match="has 52 tokens, and vilt takes about 20"):
        answerers["vilt"].answer(pictures[0], ["dog " * 50])
    with pytest.raises(CaptioningError, match="and blip-vqa takes about 40"):
        answerers["blip-vqa"].answer(pictures[0], ["dog " * 30])


def test_a_picture_that_cannot_be_read_is_told(answerers):
    with pytest.raises(ImageError):
        answerers["vilt"].answer(b"nothing", ["a dog?"])


def test_a_captioner_is_not_taken_for_a_model_that_answers(saved_models):
    with pytest.raises(BundleError, match="is a BlipForConditionalGeneration, which answers no questions"):
        load_answerer(str(saved_models["blip"]), offline=True)


def test_a_half_written_model_is_refused(saved_models, tmp_path):
    import shutil

    folder = shutil.copytree(saved_models["vilt"], tmp_path / "vilt")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(BundleError, match="is not whole"):
        load_answerer(str(folder), offline=True)
    weights.rename(folder / "pytorch_model.bin")
    with pytest.raises(BundleError, match=r"pytorch_model.bin, a pickle"):
        load_answerer(str(folder), offline=True)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_gives_answers_too(saved_models, pictures, kind):
    import torch

    answerer = load_answerer(str(saved_models[kind]), offline=True)
    answerer.model.to(torch.bfloat16)
    assert 0 < answerer.answer(pictures[0], ["a red dog?"])[0].probability <= 1


def test_weights_that_are_nan_are_told(saved_models, pictures):
    import torch

    vilt = load_answerer(str(saved_models["vilt"]), offline=True)
    with torch.no_grad():
        next(vilt.model.classifier.parameters()).fill_(float("nan"))
    with pytest.raises(CaptioningError, match="produced NaN"):
        vilt.answer(pictures[0], ["a dog?"])


def test_the_command_answers(saved_models, photo, capsys):
    assert cli.main(["ask", photo, "a red dog?", "--model", str(saved_models["vilt"]), "--offline"]) == 0
    assert capsys.readouterr().out.endswith("%, not calibrated\n")
