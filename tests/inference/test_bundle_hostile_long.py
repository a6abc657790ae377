"""What a stranger or a disk can do to a bundle, in numbers: refused in a sentence, and nothing else happens."""

import json
import os
import pickle
import random
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from captioning.data.tokenizer import SPECIAL_WORDS
from captioning.errors import BundleError
from captioning.inference import bundle
from tests.data.test_tokenizer import poisoned
from tests.inference.test_bundle import config_of, replace_file, write_config
from tests.inference.test_bundle_hostile import FREE_WIDTHS, HOSTILE, WEIGHTS, rewritten

pytestmark = pytest.mark.slow

ROOT = Path(bundle.__file__).parents[2]
FLIPS, SPOILT_WEIGHTS, SPOILT_CONFIGS = 1000, 100, 200
LOADER = """
import os, re, sys
from pathlib import Path
import captioning
from captioning.errors import CaptioningError
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
good, *folders = sys.argv[1:]
captioning.load(good)
before = peak()
os.path.exists("/from-here-on")
for folder in folders:
    try:
        captioning.load(folder)
        told = "loaded"
    except CaptioningError as error:
        told = "refused" if "\\n" not in str(error) else repr(error)
    except BaseException as error:
        told = repr(error)
    print(Path(folder).name, told, sep="\\t", flush=True)
print("peak", peak() - before, sep="\\t")
"""


def load_all(good: Path, folders: list[Path], place: Path, *before: str) -> tuple[dict[str, str], int]:
    """What another process says of each folder, and by how many kB its memory grew; where it died, that."""
    command = [*before, sys.executable, "-c", LOADER, *map(str, [good, *folders])]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=1500)
    told = dict(line.split("\t") for line in done.stdout.splitlines())
    assert done.returncode == 0, f"{len(told)} were told of, then {done.returncode}: {done.stderr[-500:]}"
    return told, int(told.pop("peak"))


def refusal(folder: Path) -> str:
    try:
        bundle.check(folder)
    except BundleError as error:
        return str(error)
    return ""


def test_no_flipped_byte_goes_unnoticed(saved, tmp_path, record_property):
    folder, dice, refused = Path(shutil.copytree(saved, tmp_path / "copy")), random.Random(0), 0
    said = {name: value for name, value in config_of(folder).items() if name != "sum"}
    for _ in range(FLIPS):
        path = dice.choice(sorted(folder.iterdir()))
        whole = path.read_bytes()
        spoilt = bytearray(whole)
        spoilt[dice.randrange(len(whole))] ^= dice.randrange(1, 256)
        path.write_bytes(spoilt)
        if sentence := refusal(folder):
            assert path.name in sentence or "has format" in sentence
            refused += 1
        else:
            assert path.name == "config.json"
            assert config_of(folder).items() >= said.items(), "it says something else"
        path.write_bytes(whole)
    record_property("flips", FLIPS)
    record_property("refused", refused)
    record_property("without effect", FLIPS - refused)
    assert refused > 0.98 * FLIPS


def with_config(**sections):
    def change(folder: Path) -> None:
        config = config_of(folder)
        for name, values in sections.items():
            config[name] = config[name] | values
        write_config(folder, config)

    return change


def with_file(name: str, data: bytes):
    return lambda folder: replace_file(folder, name, data)


def with_link(name: str, target: str):
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return change


def with_pipe(folder: Path) -> None:
    (folder / "scores.json").unlink()
    os.mkfifo(folder / "scores.json")


def with_endless_words(folder: Path) -> None:
    with_file("vocabulary.json", json.dumps({"words": [*SPECIAL_WORDS, *map(str, range(10**7))], "format": 1}).encode())
    with_config(model={"vocabulary_size": 10**7 + 4})(folder)


def with_pickled_arrays(folder: Path) -> None:
    np.savez(folder / "array.npz", x=np.array([{"a": 1}, print], dtype=object))
    data = (folder / "array.npz").read_bytes()
    (folder / "array.npz").unlink()
    replace_file(folder, WEIGHTS, data)


def with_keras_archive(folder: Path) -> None:
    code = {"class_name": "Lambda", "module": "keras.layers", "config": {"function": "__import__('os').system('true')"}}
    with zipfile.ZipFile(folder / "model.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps(code))
        archive.writestr("metadata.json", "{}")
        archive.writestr("model.weights.h5", bytes(10**8))
    data = (folder / "model.keras").read_bytes()
    (folder / "model.keras").unlink()
    replace_file(folder, WEIGHTS, data)


ATTACKS = {
    **{change.__name__: lambda folder, change=change: rewritten(folder, change) for change in HOSTILE},
    **{width: with_config(model={width: 2 * 10**9}) for width in FREE_WIDTHS},
    "regions": with_config(model={"num_regions": 2 * 10**9}),
    "words": with_config(model={"vocabulary_size": 2 * 10**9}),
    "endless words": with_endless_words,
    "large images": with_config(encoder={"image_size": 2 * 10**6}),
    "beams": with_config(decoding={"num_beams": 10**9}),
    "length": with_config(decoding={"max_length": 10**9}),
    "encoder": with_config(encoder={"name": "os"}),
    "long config": with_config(about={"x": "y" * 10**8}),
    "above": with_config(files={"..": "", "../good/config.json": ""}),
    "absolute": with_config(files={"/etc/passwd": ""}),
    "link to a file": with_link("scores.json", "/etc/passwd"),
    "linked weights": with_link(WEIGHTS, "/etc/passwd"),
    "linked config": with_link("config.json", "/etc/passwd"),
    "endless file": with_link("vocabulary.json", "/dev/zero"),
    "pipe": with_pipe,
    "pickled arrays": with_pickled_arrays,
    "pickled words": with_file("vocabulary.json", pickle.dumps({"format": 1})),
    "archive": with_keras_archive,
    "no weights": with_file(WEIGHTS, b""),
}


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_hostile_bundles_start_nothing_and_read_nothing_else(saved, tmp_path, record_property):
    place, log = tmp_path / "place", tmp_path / "log"
    good = Path(shutil.copytree(saved, place / "good"))
    if subprocess.run(["strace", "-qq", "-o", log, "true"], capture_output=True).returncode:
        pytest.skip("needs the right to trace")
    folders = [Path(shutil.copytree(good, place / name)) for name in ATTACKS]
    for folder, attack in zip(folders, ATTACKS.values(), strict=True):
        attack(folder)
    marker = place / "touched"
    last = Path(shutil.copytree(good, place / "poisoned pickle"))
    replace_file(last, "tokenizer.pkl", poisoned(marker)["system"])
    traced = ["strace", "-f", "-qq", "-e", "trace=execve,execveat,socket,connect,open,openat,access,stat,newfstatat"]
    told, grown = load_all(good, [*folders, last], place, *traced, "-o", str(log))
    assert told.pop(last.name) == "loaded", "a pickle that nobody opens"
    assert set(told.values()) == {"refused"}, {name: said for name, said in told.items() if said != "refused"}
    calls = re.split(r'[ (]"/from-here-on"', log.read_text(errors="replace"), maxsplit=1)[1].splitlines()
    assert not [call for call in calls if re.search(r"\b(execveat|execve|socket|connect)\(", call)]
    opened = {match[1] for call in calls if (match := re.search(r'\bopen(?:at)?\([^"]*"([^"]+)"', call))}
    known = (str(place), str(ROOT), sys.prefix, sys.base_prefix, "/dev/null", "/proc/", "/sys/", "/usr/lib", "/lib")
    assert opened
    assert not {path for path in opened if not path.startswith(known)}
    assert not marker.exists()
    record_property("bundles", len(told))
    record_property("started, connected or read elsewhere", 0)
    record_property("MB grown", grown // 1024)
    assert grown < 100 * 1024


def junk(dice: random.Random) -> object:
    return dice.choice((None, True, -1, 0, 1, 2**70, 1e308, float("nan"), "", "\0", "x" * 99, [], [[1]], {}, {"a": 1}))


def spoilt_config(config: dict, dice: random.Random) -> dict:
    """With another value somewhere."""
    inner = config
    while isinstance(inner, dict) and inner:
        name = dice.choice(list(inner))
        if not isinstance(inner[name], dict) or not inner[name] or dice.random() < 0.1:
            inner[name if dice.random() < 0.9 else "other"] = junk(dice)
            break
        inner = inner[name]
    return config


def test_spoilt_bundles_raise_nothing_but_what_can_be_told(saved, tmp_path, record_property):
    dice, folders = random.Random(0), []
    for number in range(SPOILT_WEIGHTS + SPOILT_CONFIGS):
        folder = Path(shutil.copytree(saved, tmp_path / str(number)))
        if number < SPOILT_WEIGHTS:
            data = bytearray((folder / WEIGHTS).read_bytes())
            for _ in range(dice.choice((1, 2, 8, 64))):
                data[dice.randrange(len(data))] = dice.choice((0, 255, dice.randrange(256)))
            replace_file(folder, WEIGHTS, bytes(data))
        else:
            write_config(folder, spoilt_config(config_of(folder), dice))
        folders.append(folder)
    told, _ = load_all(saved, folders, tmp_path)
    assert len(told) == len(folders)
    assert set(told.values()) == {"refused", "loaded"}, set(told.values())
    record_property("bundles", len(told))
    record_property("refused", list(told.values()).count("refused"))
    record_property("harmless", list(told.values()).count("loaded"))
