"""Labels by CLIP: tiny models, and what is refused before one is loaded."""

import numpy as np
import pytest
from PIL import Image

from captioning import cli
from captioning.errors import CaptioningError
from captioning.extras import zero_shot
from tests.extras import tiny_models

LABELS = ["a dog", "a red man", "grass", "cats"]


@pytest.fixture
def photo(tmp_path, pictures):
    Image.fromarray(pictures[0]).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    pytest.importorskip("torch")
    return tiny_models.save("clip", tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def clip(clip_folder):
    return zero_shot.load_clip(str(clip_folder), offline=True)


@pytest.mark.hf
def test_probabilities_are_those_of_the_model_itself(clip, pictures):
    import torch

    directions = clip.encode(LABELS)
    assert directions.shape == (4, 8)
    found = clip.label(pictures[0], LABELS, directions)
    inputs = clip._processor(
        images=pictures[0], text=[f"a photo of a {label}" for label in LABELS], return_tensors="pt", padding=True
    )
    with torch.inference_mode():
        wanted = clip._model(**inputs).logits_per_image[0].softmax(-1).numpy()
    order = np.argsort(-wanted, kind="stable")
    assert [each.text for each in found.found] == [LABELS[place] for place in order]
    assert [each.probability for each in found.found] == pytest.approx(wanted[order], abs=1e-4)
    assert found.summary().startswith(f"Most likely {found.top[0].text} (")


@pytest.mark.hf
def test_ten_thousand_labels_are_encoded_in_batches_and_as_each_alone(clip, pictures):
    labels = [f"dog {number}" for number in range(10_000)]
    directions = clip.encode(labels, "{}")
    np.testing.assert_allclose(directions[[0, 9_999]], clip.encode([labels[0], labels[-1]], "{}"), atol=1e-5)
    assert sum(each.probability for each in clip.label(pictures[1], labels, directions).found) == pytest.approx(1)


@pytest.mark.hf
def test_the_command_writes_what_it_finds(clip_folder, photo, tmp_path, capsys):
    output, chart = tmp_path / "labels.csv", tmp_path / "labels.png"
    flags = ["--labels", "dog,man,grass", "--model", str(clip_folder), "--prompt", "{} in a photo", "--offline"]
    assert cli.main(["classify", str(photo), *flags, "--output", str(output), "--chart", str(chart)]) == 0
    assert "Most likely " in capsys.readouterr().out
    assert len(output.read_text().splitlines()) == 4
    assert chart.read_bytes().startswith(b"\x89PNG")


@pytest.mark.hf
def test_another_kind_of_model_is_refused(tmp_path):
    folder = tiny_models.save("vilt", tmp_path)
    with pytest.raises(
        CaptioningError, match=r"model of type vilt, which compares no labels with pictures; give a CLIP"
    ):
        zero_shot.load_clip(str(folder), offline=True)


def test_names_and_prompts_that_cannot_be_used(photo, capsys):
    def refused(*flags):
        assert cli.main(["classify", str(photo), "--labels", "dog,man", *flags]) != 0
        return capsys.readouterr().err

    assert "No model for labels is called klip; choose clip, a folder, or OWNER/MODEL." in refused("--model", "klip")
    assert "The prompt has no place for a label" in refused("--model", "clip", "--prompt", "a dog")
    assert "--prompt is for CLIP; give --model clip too" in refused("--prompt", "a {}")
    assert "give one of them" in refused("--model", "clip", "--bundle", "artifacts/flickr8k")


def test_a_folder_that_is_no_model(tmp_path, photo, capsys):
    (tmp_path / "empty").mkdir()
    assert cli.main(["classify", str(photo), "--labels", "dog,man", "--model", str(tmp_path / "empty")]) != 0
    assert str(tmp_path / "empty") in capsys.readouterr().err
