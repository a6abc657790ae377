"""`captioning segment` on the command line, with a stand-in for the model: what is drawn, written and refused."""

import json
import sys

import pytest
from PIL import Image

from captioning import cli
from captioning.commands import segments as command
from captioning.errors import CaptioningError, MissingExtra
from captioning.extras import segmentation
from captioning.extras.segmentation import PUBLISHED_SEGMENTERS, load_segmenter, make_ready, task_of
from captioning.extras.segments import OWN
from tests.extras.stand_ins import Halves
from tests.extras.test_hf_files import tensors


@pytest.fixture
def opened(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("captioning.plots.segments.TALL", 100)
    names = []
    monkeypatch.setattr(segmentation, "load_segmenter", lambda name, **how: names.append((name, how)) or Halves())
    monkeypatch.setattr(command, "load", lambda flags: Halves())
    return names


def test_a_picture_is_drawn_with_its_segments(opened, photo, tmp_path, capsys):
    assert cli.main(["segment", photo, "--offline"]) == 0
    assert capsys.readouterr().out == "  1   90.0%  <dog>\n  2   60.0%  sky\n"
    assert opened == [("mask2former", {"offline": True, "task": ""})]
    with Image.open(tmp_path / "photo-segments.png") as drawn:
        assert drawn.width > 360


def test_segments_are_captioned_and_words_are_linked(opened, photo, tmp_path, capsys):
    outputs = ["--output", "one.png", "--output", "one.json"]
    assert cli.main(["segment", photo, "--captions", "--threshold", "0.7", *outputs]) == 0
    assert capsys.readouterr().out == "a dog under the sky\n  1   90.0%  <dog>  a dog  words: a, dog\n"
    assert not (tmp_path / "photo-segments.png").exists()
    assert (tmp_path / "one.png").exists()
    record = json.loads((tmp_path / "one.json").read_text())
    assert record["images"][0]["caption"] == "a dog under the sky"
    assert [word["annotation_id"] for word in record["images"][0]["words"]] == [1, 1]
    assert record["images"][0]["words"][1]["lift"] == 1.6
    assert record["annotations"][0]["caption"] == "a dog"


def test_json_on_the_terminal_has_all_pictures_and_no_drawing(opened, photo, tmp_path, capsys):
    (tmp_path / "two.png").write_bytes((tmp_path / "photo.png").read_bytes())
    assert cli.main(["segment", photo, "two.png", "none.png", "--json"]) == 1
    said = capsys.readouterr()
    record = json.loads(said.out)
    assert [each["image_id"] for each in record["annotations"]] == [1, 1, 2, 2]
    assert "none.png does not exist" in said.err
    assert not list(tmp_path.glob("*-segments.png"))


def test_a_picture_without_segments_is_told(opened, photo, capsys):
    assert cli.main(["segment", photo, "--threshold", "1"]) == 0
    assert "no segment was found; lower --threshold" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--opacity", "1.5"], "--opacity is 1.5; a number from 0 to 1"),
        (["--opacity", "nan"], "--opacity is nan; a number from 0 to 1"),
        (["--threshold", "-1"], "The least score is -1.0; a number from 0 to 1"),
        (["--output", "a.txt"], "ends in .png or .json was expected"),
        (["other.png", "--output", "a.png"], "takes one picture"),
        (["folder/photo.jpg"], "Two pictures would be drawn into photo-segments.png"),
        (["--bundle", "small"], "are for --captions"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(opened, photo, capsys, arguments, says):
    assert cli.main(["segment", photo, *arguments]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert len(said.splitlines()) == 1
    assert opened == []


def test_the_tasks_are_those_of_the_models():
    assert command.TASKS == segmentation.TASKS
    for name, each in PUBLISHED_SEGMENTERS.items():
        assert each.task in segmentation.TASKS
        assert f"{name}," in command.MODELS


def test_a_task_is_given_or_that_of_the_name():
    universal = "Mask2FormerForUniversalSegmentation"
    assert task_of("mask2former", universal, "") == "instance"
    assert task_of("mask2former", universal, "semantic") == "semantic"
    assert task_of("someone/mask2former-ade-semantic", universal, "") == "semantic"
    assert task_of("someone/some-model", universal, "") == "panoptic"
    with pytest.raises(CaptioningError, match="it can be asked for panoptic, not for instance"):
        task_of("detr", "DetrForSegmentation", "instance")


def model(folder, config, *, weights=True):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if weights:
        (folder / "model.safetensors").write_bytes(tensors())
    return str(folder)


def test_a_folder_that_is_no_segmenter_is_refused(tmp_path):
    with pytest.raises(CaptioningError, match="No segmenter is called nothing; choose one of mask2former,"):
        make_ready("nothing", offline=True)
    with pytest.raises(CaptioningError, match=r"it has no config\.json"):
        make_ready(str(tmp_path), offline=True)
    with pytest.raises(CaptioningError, match="is not on this computer"):
        make_ready("segformer", offline=True)
    for config, says in (
        ({"model_type": "vilt", "architectures": ["ViltForQuestionAnswering"]}, "is a ViltForQuestionAnswering"),
        ({"model_type": "clip"}, "is a clip"),
    ):
        with pytest.raises(CaptioningError, match=f"{says}, which finds no segments; expected one of Mask2Former"):
            make_ready(model(tmp_path / "other", config), offline=True)
    segformer = {"model_type": "segformer", "architectures": ["SegformerForSemanticSegmentation"]}
    with pytest.raises(CaptioningError, match=r"it has no config|has no model\.safetensors"):
        make_ready(model(tmp_path / "half", segformer, weights=False), offline=True)
    with pytest.raises(CaptioningError, match="code of its own"):
        make_ready(model(tmp_path / "code", segformer | {"auto_map": {}}), offline=True)


def test_a_backbone_of_timm_needs_timm(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    detr = {"model_type": "detr", "architectures": ["DetrForSegmentation"]}
    for more in ({}, {"use_timm_backbone": True}, {"backbone_config": {"model_type": "timm_backbone"}}):
        with pytest.raises(MissingExtra, match="needs the package timm for its backbone; install it: python -m pip"):
            make_ready(model(tmp_path / "detr", detr | more), offline=True)
    assert make_ready(model(tmp_path / "detr", detr | {"use_timm_backbone": False}), offline=True)
    assert make_ready(model(tmp_path / "detr", detr | {"backbone_config": {"model_type": "resnet"}}), offline=True)


def test_without_the_extra_the_command_that_installs_it_is_named(tmp_path, photo, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    segformer = {"model_type": "segformer", "architectures": ["SegformerForSemanticSegmentation"]}
    assert cli.main(["segment", photo, "--model", model(tmp_path / "model", segformer)]) == 2
    said = capsys.readouterr().err
    assert "captioning segment needs PyTorch and transformers" in said
    assert "[hf]" in said
    assert len(said.splitlines()) == 1


def test_an_own_segmenter_is_opened_by_its_own_door(tmp_path):
    (tmp_path / OWN).write_text("{}")
    assert make_ready(str(tmp_path), offline=True) == tmp_path
    with pytest.raises(CaptioningError, match="has one task; leave out --task semantic"):
        load_segmenter(str(tmp_path), offline=True, task="semantic")


def test_a_segmenter_can_be_fetched_by_its_short_name(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("captioning.extras.hf_hub.folder_of", lambda name, **_: tmp_path / name)
    assert cli.main(["captioners", "--download", "segformer"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/nvidia/segformer-b0-finetuned-ade-512-512\n"
