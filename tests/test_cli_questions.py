"""`captioning ask` on the command line, with a stand-in for the model: what is asked, written and refused."""

import csv
import json

import pytest

from captioning import cli
from captioning.errors import CaptioningError
from captioning.extras import questions
from captioning.extras.questions import LONGEST_QUESTION, check_question, make_ready
from tests.extras.stand_ins import Yes
from tests.extras.test_hf_files import tensors


@pytest.fixture
def opened(monkeypatch):
    names = []
    monkeypatch.setattr(questions, "load_answerer", lambda name, **how: names.append((name, how)) or Yes())
    return names


def test_one_answer_stands_alone(opened, photo, capsys):
    assert cli.main(["ask", photo, "is it red?", "--offline"]) == 0
    assert capsys.readouterr().out == "=yes\t75%, not calibrated\n"
    assert opened == [("blip-vqa", {"offline": True})]


def test_several_pictures_and_questions_are_answered_in_order(opened, photo, tmp_path, capsys):
    (tmp_path / "two.png").write_bytes((tmp_path / "photo.png").read_bytes())
    assert cli.main(["ask", str(tmp_path), "is it red?", "--question", "is it big?", "--model", "vilt"]) == 0
    asked = [tuple(line.split("\t")[:2]) for line in capsys.readouterr().out.splitlines()]
    names = [str(tmp_path / name) for name in ("photo.png", "two.png")]
    assert asked == [(name, question) for name in names for question in ("is it red?", "is it big?")]
    assert opened[0][0] == "vilt"


def test_answers_are_written_as_csv_and_json(opened, photo, tmp_path, capsys):
    assert cli.main(["ask", photo, "is it red?", "--json"]) == 0
    [shown] = json.loads(capsys.readouterr().out)
    assert (shown["answer"], shown["probability"], shown["verdict"]) == ("=yes", 0.75, "not calibrated")
    for name in ("answers.json", "answers.csv"):
        assert cli.main(["ask", photo, "is it red?", "--output", str(tmp_path / name)]) == 0
        assert "1 answer in" in capsys.readouterr().err
    assert json.loads((tmp_path / "answers.json").read_text()) == [shown]
    with open(tmp_path / "answers.csv", encoding="utf-8") as file:
        [row] = csv.DictReader(file)
    assert (row["answer"], row["question"]) == ("'=yes", "is it red?")  # no formula for a spreadsheet


def test_a_picture_that_cannot_be_read_is_told_and_the_others_are_answered(opened, photo, tmp_path, capsys):
    assert cli.main(["ask", str(tmp_path / "none.png"), photo, "is it red?"]) == 1
    said = capsys.readouterr()
    assert said.out.count("=yes") == 1
    assert said.err.count("none.png does not exist") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([""], "The question is empty"),
        (["  \n "], "The question is empty"),
        (["x" * 10_000], "has 10,000 characters; ask one of at most 300"),
        (["is it?", "--output", "answers.txt"], "ends in .csv or .json was expected"),
        (["pyproject.toml"], "is a file or a folder, not a question"),
        (["tests"], "is a file or a folder, not a question"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(opened, photo, capsys, arguments, says):
    assert cli.main(["ask", photo, *arguments]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert len(said.splitlines()) == 1
    assert opened == []


def test_a_question_is_taken_on_one_line():
    assert check_question("  what\n is\tit? ") == "what is it?"
    assert check_question("x" * LONGEST_QUESTION)


@pytest.mark.parametrize(
    ("name", "contents", "says"),
    [
        ("preprocessor_config.json", b'{"auto_map": {}}', "code of its own"),
        ("model.safetensors", b"half", "is not whole"),
        ("config.json", b"{", "cannot be read"),
    ],
)
def test_a_folder_that_is_no_whole_model_is_refused(tmp_path, photo, capsys, name, contents, says):
    folder = tmp_path / "vilt"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "vilt", "architectures": ["ViltForQuestionAnswering"]}')
    (folder / "model.safetensors").write_bytes(tensors())
    (folder / name).write_bytes(contents)
    assert cli.main(["ask", photo, "is it?", "--model", str(folder)]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert len(said.splitlines()) == 1


def test_a_model_of_pickles_is_refused(tmp_path, photo, capsys):
    (tmp_path / "config.json").write_text('{"model_type": "vilt", "architectures": ["ViltForQuestionAnswering"]}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    assert cli.main(["ask", photo, "is it?", "--model", str(tmp_path)]) == 2
    assert "a pickle, which can run code" in capsys.readouterr().err


def test_a_model_that_answers_can_be_fetched_by_its_short_name(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("captioning.extras.hf_hub.folder_of", lambda name, **_: tmp_path / name)
    assert cli.main(["captioners", "--download", "vilt"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/dandelin/vilt-b32-finetuned-vqa\n"


def test_a_name_that_no_model_has_is_refused():
    with pytest.raises(CaptioningError, match="choose one of blip-vqa, vilt, blip2, a folder"):
        make_ready("nothing", offline=True)


def test_a_model_of_another_kind_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(tensors())
    for config, says in (
        ({"model_type": "blip", "architectures": ["BlipForConditionalGeneration"]}, "BlipForConditionalGeneration"),
        ({"model_type": "clip"}, "is a clip"),
        ({"model_type": "vilt", "architectures": "ViltForQuestionAnswering"}, "is a vilt"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(CaptioningError, match=f"{says}, which answers no questions"):
            make_ready(str(tmp_path), offline=True)
