"""The command line: --help costs nothing, each command does its one thing, each mistake ends in one sentence."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import captioning
from captioning import cli
from captioning.options import DecodeOptions
from captioning.scenes import write_scenes

ROOT = Path(__file__).parent.parent
HEAVY = ("keras", "tensorflow", "jax", "torch", "numpy", "PIL")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The folder of eight drawn scenes in three splits, to be read only."""
    return write_scenes(tmp_path_factory.mktemp("drawn") / "scenes", sizes={"train": 4, "dev": 2, "test": 2})


@pytest.fixture
def data(drawn, tmp_path):
    return Path(shutil.copytree(drawn, tmp_path / "data"))


@pytest.fixture
def album(pictures, tmp_path):
    """Two pictures, one in a folder within the folder, and a file that is none."""
    folder = tmp_path / "album"
    (folder / "more.jpg").mkdir(parents=True)
    Image.fromarray(pictures[0]).save(folder / "a.png")
    Image.fromarray(pictures[1]).save(folder / "more.jpg" / "b.png")
    (folder / "notes.txt").write_text("not a picture")
    return folder


@pytest.fixture
def loaded(captioner, monkeypatch):
    """The captioner that every bundle turns out to be, without the seconds that loading takes."""
    monkeypatch.setattr(captioning, "load", lambda path, **options: captioner)
    return captioner


def run(capsys, *arguments) -> tuple[int, str, str]:
    status = cli.main([str(argument) for argument in arguments])
    return status, *capsys.readouterr()


def assert_refused(capsys, *arguments, saying: str) -> None:
    """Exit status 2, and one sentence on the error stream alone."""
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("captioning: ")
    assert err.count("\n") == 1
    assert saying in err


def refused_by_parser(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)


def test_help_is_at_once():
    before = os.times()
    told = python("-m", "captioning", "--help")
    after = os.times()
    assert told.returncode == 0, told.stderr
    assert all(command in told.stdout for command in ("check", "caption", "evaluate"))
    seconds = sum(after[2:4]) - sum(before[2:4])  # its own processor time, however busy the machine is
    assert seconds < 0.5


@pytest.mark.parametrize("arguments", [["--help"], ["caption", "--help"], ["evaluate"], ["caption", "a.jpg", "--no"]])
def test_nothing_heavy_is_imported_to_explain_or_refuse(arguments):
    script = (
        "import sys\nfrom captioning.cli import main\n"
        f"try:\n    main({arguments})\nexcept SystemExit:\n    print('|', *sys.modules)"
    )
    modules = python("-c", script).stdout.rpartition("|")[2].split()
    assert "captioning.cli" in modules
    assert not set(HEAVY) & set(modules)


@pytest.mark.parametrize("command", ["check", "caption", "evaluate"])
def test_the_examples_in_help_are_commands_that_work(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    prefix = "  python -m captioning "
    shown = [line.removeprefix(prefix) for line in capsys.readouterr().out.splitlines() if line.startswith(prefix)]
    assert len(shown) == 2
    for line in shown:
        assert cli._parser().parse_args(line.split()).run is getattr(cli, f"_{command}")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["draw"],
        ["check"],
        ["caption"],
        ["evaluate", "data", "--split", "all"],
        ["caption", "a.png", "--top-p", "x"],
    ],
)
def test_a_command_that_cannot_be_parsed_shows_the_usage(arguments, capsys):
    assert refused_by_parser(capsys, *arguments).startswith("usage: captioning")


def test_a_stop_by_the_person_is_no_traceback(monkeypatch, capsys):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(captioning, "load", stop)
    assert run(capsys, "caption", "a.png") == (130, "", "")


def test_check_reports(drawn, capsys):
    status, out, err = run(capsys, "check", drawn)
    assert (status, err) == (0, "")
    assert out.startswith("scenes")
    assert "cannot be read" not in out
    assert "word vector" not in out


def test_check_tells_which_words_have_a_vector(drawn, tmp_path, capsys):
    vectors = tmp_path / "glove.tiny.2d.txt"
    vectors.write_text("a 0.1 0.2\nthe 0.3 0.4\n")
    status, out, _ = run(capsys, "check", drawn, "--glove", vectors)
    assert status == 0
    assert "with a word vector" in out


def test_check_names_a_broken_image(data, capsys):
    (data / "Images" / "train_00001.jpg").write_bytes(b"")
    status, out, _ = run(capsys, "check", data)
    assert status == 0
    assert "images that cannot be read: 1" in out
    assert "train_00001.jpg" in out


def test_check_reads_columns_by_the_names_given(pictures, tmp_path, capsys):
    for number, picture in enumerate(pictures[:3]):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    table = tmp_path / "table.csv"
    rows = "".join(f"{number}.png,7,a dog runs fast\n" for number in range(3))
    table.write_text(f"foto,weight,words\n{rows}")
    columns = ("--image-column", "foto", "--caption-column", "words", "--images", tmp_path)
    status, out, _ = run(capsys, "check", table, *columns)
    assert status == 0
    assert "cannot be read" not in out


def test_check_refuses_what_is_not_there(drawn, tmp_path, capsys):
    assert_refused(capsys, "check", tmp_path / "none", saying="does not exist")
    assert_refused(capsys, "check", drawn, "--glove", tmp_path / "none.txt", saying="does not exist")


def test_a_saved_bundle_captions_a_picture(saved, captioner, album, pictures, capsys):
    path = album / "a.png"
    status, out, _ = run(capsys, "caption", path, "--bundle", saved)
    assert status == 0
    assert out == f"{path}\t{captioner.caption(pictures[0])}\n"


def test_a_folder_is_captioned_with_the_folders_within(loaded, album, pictures, capsys):
    status, out, err = run(capsys, "caption", album)
    assert (status, err) == (0, "")
    paths = album / "a.png", album / "more.jpg" / "b.png"
    assert out.splitlines() == [
        f"{path}\t{loaded.caption(picture)}" for path, picture in zip(paths, pictures, strict=False)
    ]


def test_an_unreadable_picture_does_not_stop_the_others(loaded, album, capsys):
    (album / "aa.jpg").write_bytes(b"\xff\xd8 half a picture")
    (album / "._a.png").write_bytes(b"what a Mac leaves beside a.png")
    (album / ".thumbnails").mkdir()
    shutil.copy(album / "a.png", album / ".thumbnails")
    status, out, err = run(capsys, "caption", album)
    assert status == 1
    assert [line.partition("\t")[0] for line in out.splitlines()] == [
        str(album / "a.png"),
        str(album / "more.jpg" / "b.png"),
    ]
    assert err.startswith("captioning: ")
    assert err.count("\n") == 1
    assert "aa.jpg" in err


def test_a_picture_that_is_not_there_is_named(loaded, album, capsys):
    status, out, err = run(capsys, "caption", album / "none.jpg", album / "a.png")
    assert status == 1
    assert out.startswith(str(album / "a.png"))
    assert "none.jpg" in err


def test_a_folder_without_pictures_is_refused(loaded, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("alone here, but no picture")
    assert_refused(capsys, "caption", tmp_path, saying="holds no image")


def test_a_missing_bundle_is_refused(album, tmp_path, capsys):
    assert_refused(capsys, "caption", album, "--bundle", tmp_path / "none", saying="is not a bundle")
    assert_refused(capsys, "evaluate", album, "--bundle", tmp_path / "none", saying="is not a bundle")


def test_flags_override_the_bundles_search(loaded, album, pictures, capsys):
    path, options = album / "a.png", DecodeOptions(strategy="greedy", max_length=2)
    assert loaded.caption(pictures[0]).text != loaded.caption(pictures[0], options).text
    _, out, _ = run(capsys, "caption", path, "--strategy", "greedy", "--max-length", 2)
    assert out == f"{path}\t{loaded.caption(pictures[0], options)}\n"


def test_flags_not_given_are_the_bundles_own(loaded, album, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(loaded, "options", DecodeOptions(max_length=6, num_beams=4, forbid=("dog",)))
    monkeypatch.setattr(type(loaded), "caption", lambda self, path, options: asked.append(options) or Said())
    run(capsys, "caption", album / "a.png", "--num-beams", 2, "--forbid", "cat", "man")
    assert asked == [DecodeOptions(max_length=6, num_beams=2, forbid=("cat", "man"))]


class Said:
    alternatives = ()


def test_all_captions_asked_for_are_printed(loaded, album, capsys):
    path = album / "a.png"
    _, out, _ = run(capsys, "caption", path, "--num-captions", 3)
    lines = out.splitlines()
    assert len(set(lines)) == 3
    assert all(line.startswith(f"{path}\t") for line in lines)


def test_flags_that_do_not_go_together_are_refused(loaded, album, capsys):
    assert_refused(capsys, "caption", album, "--top-p", 2, saying="--top-p 2.0")
    assert_refused(capsys, "caption", album, "--force", "zebra", saying="never learnt")


def test_evaluate_writes_what_it_scores_and_prints_a_card(loaded, drawn, tmp_path, capsys):
    predictions = tmp_path / "deeper" / "predictions.jsonl"
    status, out, _ = run(capsys, "evaluate", drawn, "--split", "dev", "--predictions", predictions, "--max-length", 3)
    assert status == 0
    card = json.loads(out)
    assert (card["split"], card["images"]) == ("dev", 2)
    assert "CIDEr-D" in card["scores"]
    assert card["decoding"]["max_length"] == 3
    records = [json.loads(line) for line in predictions.read_text().splitlines()]
    assert [record["image"] for record in records] == ["Images/dev_00000.jpg", "Images/dev_00001.jpg"]
    assert all(len(record["caption"].split()) <= 3 for record in records)


def test_a_person_sees_the_card_as_a_table(loaded, drawn, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    status, out, _ = run(capsys, "evaluate", drawn, "--predictions", tmp_path / "predictions.jsonl")
    assert status == 0
    assert out.startswith("test split, 2 images")


def test_a_split_that_is_not_there_is_refused(loaded, data, tmp_path, capsys):
    lines = (data / "metadata.jsonl").read_text().splitlines(keepends=True)
    (data / "metadata.jsonl").write_text("".join(line for line in lines if "test_" not in line))
    arguments = ("evaluate", data, "--predictions", tmp_path / "predictions.jsonl")
    assert_refused(capsys, *arguments, saying="has no test split")
    assert not (tmp_path / "predictions.jsonl").exists()
