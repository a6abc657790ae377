"""The command line: --help costs nothing, each command does its one thing, each mistake ends in one sentence."""

import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import captioning
from captioning import cli
from captioning.cli import build_parser
from captioning.inference.caption import Caption
from captioning.options import DecodeOptions
from captioning.plots.attention import STILL

ROOT = Path(__file__).parent.parent
HEAVY = ("keras", "tensorflow", "jax", "torch", "numpy", "PIL", "tqdm")
COMMANDS = ("train", "caption", "undo", "attention", "app", "evaluate", "compare", "check", "doctor")


@pytest.fixture
def album(pictures, tmp_path):
    """Two pictures, one in a folder within the folder, and a file that is none."""
    folder = tmp_path / "album"
    (folder / "more.jpg").mkdir(parents=True)
    Image.fromarray(pictures[0]).save(folder / "a.png")
    Image.fromarray(pictures[1]).save(folder / "more.jpg" / "b.png")
    (folder / "notes.txt").write_text("not a picture")
    return folder


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
    assert all(f"\n    {command} " in told.stdout for command in COMMANDS)
    seconds = sum(after[2:4]) - sum(before[2:4])  # its own processor time, however busy the machine is
    assert seconds < 0.3


@pytest.mark.parametrize(
    "arguments",
    [["--help"], *([command, "--help"] for command in COMMANDS), ["evaluate"], ["caption", "a.jpg", "--no"]],
)
def test_nothing_heavy_is_imported_to_explain_or_refuse(arguments):
    script = (
        "import sys\nfrom captioning.cli import main\n"
        f"try:\n    main({arguments})\nexcept SystemExit:\n    print('|', *sys.modules)"
    )
    modules = python("-c", script).stdout.rpartition("|")[2].split()
    assert "captioning.cli" in modules
    assert not set(HEAVY) & set(modules)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_in_help_are_commands_that_work(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    prefix = "  python -m captioning "
    shown = [line.removeprefix(prefix) for line in capsys.readouterr().out.splitlines() if line.startswith(prefix)]
    assert len(shown) == len(next(each for each in cli.COMMANDS if each.name == command).examples) >= 2
    for line in shown:
        assert build_parser().parse_args(shlex.split(line, comments=True)).command == command


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["draw"],
        ["check"],
        ["caption"],
        ["evaluate", "data", "--split", "all"],
        ["caption", "a.png", "--top-p", "x"],
        ["caption", "a.png", "--such"],
        ["caption", "a.png", "--output", "a.csv", "--sidecar"],
        ["compare", "one"],
        ["doctor"],
        ["attention"],
    ],
)
def test_a_command_that_cannot_be_parsed_is_refused_in_one_sentence(arguments, capsys):
    sentence = refused_by_parser(capsys, *arguments)
    command = " ".join(["python -m captioning", *(name for name in arguments[:1] if name in COMMANDS)])
    assert sentence.startswith("captioning: ")
    assert sentence.endswith(f"; see {command} --help.\n")
    assert sentence.count("\n") == 1


def test_the_help_of_caption_begins_with_what_is_used_most(capsys):
    with pytest.raises(SystemExit):
        cli.main(["caption", "--help"])
    options, search, engine = re.split(r"\n(?:search|engine):\n", capsys.readouterr().out)
    assert options.startswith("usage: python -m captioning caption [options] PATH [PATH ...]\n")
    flags = re.findall(r"^  (?:-h, )?(--[a-z-]+)", options, re.MULTILINE)
    assert flags[:5] == ["--help", "--bundle", "--output", "--sidecar", "--metadata"]
    assert flags[5:8] == ["--alt-text", "--alt-length", "--min-confidence"]
    assert len(re.findall(r"^  --", search, re.MULTILINE)) == len(fields(DecodeOptions))
    assert "--engine" in engine


def test_a_stop_by_the_person_is_no_traceback(monkeypatch, capsys):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(captioning, "load", stop)
    assert run(capsys, "caption", "a.png") == (130, "", "")


def test_whoever_reads_the_output_may_stop_reading():
    script = "import dataclasses, sys\nfrom captioning import cli\n"
    script += "check = dataclasses.replace(cli.CHECK, run=lambda flags: print('x' * 10**6) or 0)\n"
    script += "cli.COMMANDS = [check]\n"
    script += "sys.exit(cli.main(['check', 'data']))"
    reader = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    reader.stdout.close()
    assert reader.wait() == 141
    assert reader.stderr.read() == b""
    reader.stderr.close()


def test_a_saved_bundle_captions_a_picture(saved, captioner, album, pictures, capsys):
    path = album / "a.png"
    status, out, _ = run(capsys, "caption", path, "--bundle", saved)
    assert status == 0
    assert out == f"{path}\t{captioner.caption(pictures[0])}\tconfidence unknown\n"


def test_a_folder_is_captioned_with_the_folders_within(loaded, album, pictures, capsys):
    status, out, err = run(capsys, "caption", album)
    assert (status, err) == (0, "captioning: 2 captions, confidence unknown.\n")
    paths = album / "a.png", album / "more.jpg" / "b.png"
    assert out.splitlines() == [
        f"{path}\t{loaded.caption(picture)}\tconfidence unknown" for path, picture in zip(paths, pictures, strict=False)
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
    first, second = err.splitlines()
    assert first == "captioning: 2 captions, confidence unknown, 1 left out:"
    assert second.startswith(f"  {album}/aa.jpg is not a picture; expected JPEG")


def odd_pictures(folder):
    """Pictures of every odd kind, by whether they can be read: {name: reason or ""}."""
    folder.mkdir()
    smooth = Image.fromarray(np.add.outer(np.arange(48), 2 * np.arange(40)).astype("uint8"))
    smooth.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.asarray(smooth).astype("uint16") << 8).save(folder / "sixteen-bit.png")
    smooth.convert("P").save(folder / "palette.png", transparency=bytes(range(0, 256)))
    frames = [smooth.convert("RGB"), smooth.convert("RGB").rotate(90)]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    turned = Image.Exif()
    turned[0x0112] = 6
    smooth.convert("RGB").save(folder / "turned.jpg", exif=turned)
    smooth.resize((1, 1)).save(folder / "dot.png")
    Image.new("L", (50_000, 1)).save(folder / "line.png")
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 10_000, 10_000, 8, 2, 0, 0, 0) + bytes(4)
    (folder / "hundred-megapixels.png").write_bytes(header)
    (folder / "nothing.jpg").write_bytes(b"")
    (folder / "text.png").write_text("not a picture")
    (folder / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(16))
    (folder / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    return {name: "" for name in ("animated.gif", "cmyk.jpg", "palette.png", "sixteen-bit.png", "turned.jpg")} | {
        "dot.png": "is 1 x 1 pixels",
        "line.png": "is 50000 x 1 pixels",
        "hundred-megapixels.png": "has more than 50 megapixels",
        "nothing.jpg": "is empty",
        "text.png": "is not a picture",
        "phone.heic": "is HEIC",
        "drawing.svg": "is SVG",
    }


def test_of_odd_pictures_the_readable_ones_are_captioned_and_the_others_named(loaded, tmp_path, capsys):
    reasons = odd_pictures(tmp_path / "odd")
    status, out, err = run(capsys, "caption", tmp_path / "odd", tmp_path / "odd" / "drawing.svg")
    assert status == 1
    captioned = [Path(line.partition("\t")[0]).name for line in out.splitlines()]
    assert captioned == sorted(name for name, reason in reasons.items() if not reason)
    first, *named = err.splitlines()
    assert first == "captioning: 5 captions, confidence unknown, 2 shared with a similar picture, 7 left out:"
    for line in named:
        path, _, told = line.strip().partition(" ")
        assert told.startswith(reasons.pop(Path(path).name))
        assert told.endswith((".", "again.", "it."))
    assert not any(reasons.values())


def test_a_turned_picture_is_captioned_upright(loaded, tmp_path, pictures, capsys):
    turned = Image.Exif()
    turned[0x0112] = 3
    Image.fromarray(pictures[2]).rotate(180).save(tmp_path / "turned.png", exif=turned)
    _, out, _ = run(capsys, "caption", tmp_path / "turned.png")
    assert out.split("\t")[:2] == [f"{tmp_path}/turned.png", str(loaded.caption(pictures[2]))]


def test_a_picture_that_is_not_there_is_named(loaded, album, capsys):
    status, out, err = run(capsys, "caption", album / "none.jpg", album / "a.png")
    assert status == 1
    assert out.startswith(str(album / "a.png"))
    assert "none.jpg" in err


def test_a_folder_without_pictures_is_refused(loaded, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("alone here, but no picture")
    assert_refused(capsys, "caption", tmp_path, saying="holds no image")


def test_a_missing_bundle_is_refused(album, drawn, tmp_path, capsys):
    missing = tmp_path / "none"
    for arguments in (("caption", album), ("attention", album / "a.png"), ("evaluate", drawn)):
        assert_refused(capsys, *arguments, "--bundle", missing, saying="is not a bundle")
    assert_refused(capsys, "doctor", missing, saying="is not a bundle")


def test_flags_override_the_bundles_search(loaded, album, pictures, capsys):
    path, options = album / "a.png", DecodeOptions(strategy="greedy", max_length=2)
    assert loaded.caption(pictures[0]).text != loaded.caption(pictures[0], options).text
    _, out, _ = run(capsys, "caption", path, "--strategy", "greedy", "--max-length", 2)
    assert out.split("\t")[:2] == [str(path), str(loaded.caption(pictures[0], options))]


def test_flags_not_given_are_the_bundles_own(loaded, album, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(loaded, "options", DecodeOptions(max_length=6, num_beams=4, forbid=("dog",)))
    monkeypatch.setattr(
        type(loaded), "caption_features", lambda self, features, options: asked.append(options) or [SAID]
    )
    run(capsys, "caption", album / "a.png", "--num-beams", 2, "--forbid", "cat", "man")
    assert asked == [DecodeOptions(max_length=6, num_beams=2, forbid=("cat", "man"))]


SAID = Caption("a dog", (), 0.0)


def test_all_captions_asked_for_are_printed(loaded, album, capsys):
    path = album / "a.png"
    _, out, _ = run(capsys, "caption", path, "--num-captions", 3)
    lines = out.splitlines()
    assert len(set(lines)) == 3
    assert all(line.startswith(f"{path}\t") for line in lines)


def test_captions_go_to_a_file_which_is_gone_on_with(loaded, album, pictures, tmp_path, capsys):
    output = tmp_path / "captions.csv"
    summary = f"captioning: 1 caption in {output}, confidence unknown.\n"
    assert run(capsys, "caption", album / "a.png", "--output", output) == (0, "", summary)
    summary = f"captioning: 1 new caption in {output}, 1 there already, confidence unknown.\n"
    assert run(capsys, "caption", album, "--output", output) == (0, "", summary)
    header, *rows = output.read_text().splitlines()
    assert header == '"image","caption","confidence","sure","verdict","score"'
    assert [row.split(",")[:2] for row in rows] == [
        [f'"{album}/a.png"', f'"{loaded.caption(pictures[0])}"'],
        [f'"{album}/more.jpg/b.png"', f'"{loaded.caption(pictures[1])}"'],
    ]


def test_captions_go_beside_their_images(loaded, album, pictures, capsys, monkeypatch):
    monkeypatch.chdir(album.parent)  # where the journal goes
    flags = ("--sidecar", "--alt-text", "--num-captions", 2, "--min-confidence", 0)
    summary = "captioning: 2 captions beside the images, confidence unknown.\n"
    assert run(capsys, "caption", album, *flags) == (0, "", summary)
    first, second = (album / "a.txt").read_text().splitlines()
    assert first == f"{loaded.caption(pictures[0])}.".capitalize()
    assert second.endswith(".")
    (album / "a.txt").write_text("mine\n")
    run(capsys, "caption", album, *flags)
    assert (album / "a.txt").read_text() == "mine\n"
    run(capsys, "caption", album, *flags, "--if-exists", "append")
    assert (album / "a.txt").read_text().splitlines() == ["mine", first, second]


def test_a_mistake_about_the_output_is_told_before_anything_is_loaded(album, capsys):
    assert_refused(capsys, "caption", album, "--output", "captions", saying="has no known format")
    assert_refused(capsys, "caption", album, "--attention", saying="needs --format json")


def test_where_no_bundle_is_named_the_one_that_comes_along_captions(captioner, album, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(captioning, "load", lambda path, **options: asked.append(path) or captioner)
    monkeypatch.chdir(album)
    assert run(capsys, "caption", "a.png")[0] == 0
    (album / "artifacts" / "flickr8k").mkdir(parents=True)
    assert run(capsys, "caption", "a.png")[0] == 0
    assert asked == [ROOT.resolve() / "artifacts" / "flickr8k", Path("artifacts/flickr8k")]


def test_attention_is_drawn(loaded, album, pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = run(capsys, "attention", album / "a.png", "--max-length", 3)
    said = loaded.caption(pictures[0], DecodeOptions(max_length=3))
    assert (status, out) == (0, f"{said}\tconfidence unknown\n")
    with Image.open(tmp_path / "a-attention.png") as strip:
        assert strip.format == "PNG"
    status, *_ = run(capsys, "attention", album / "a.png", "--max-length", 3, "--output", tmp_path / "walk.gif")
    with Image.open(tmp_path / "walk.gif") as walk:
        assert (status, walk.format, walk.n_frames > 1) == (0, "GIF", True)


def test_attention_that_stands_still_is_told(loaded, album, tmp_path, capsys, monkeypatch):
    still = loaded.caption(album / "a.png")
    for word in still.words:
        word.attention[:] = still.words[0].attention
    monkeypatch.setattr(type(loaded), "caption", lambda self, image, options: still)
    status, _, err = run(capsys, "attention", album / "a.png", "--output", tmp_path / "a.png")
    assert status == 0
    assert err.startswith(f"captioning: {STILL}; see python -m captioning doctor ")
    assert err.count("\n") == 1


def test_attention_that_cannot_be_drawn_is_refused(loaded, album, tmp_path, capsys):
    assert_refused(capsys, "attention", album / "a.png", "--output", "a.jpg", saying="ends in .png or .gif")
    assert_refused(capsys, "attention", tmp_path / "none.png", saying="does not exist")


def test_flags_that_do_not_go_together_are_refused(loaded, album, capsys):
    assert_refused(capsys, "caption", album, "--top-p", 2, saying="--top-p 2.0")
    assert_refused(capsys, "caption", album, "--force", "zebra", saying="the vocabulary of this captioner lacks")
