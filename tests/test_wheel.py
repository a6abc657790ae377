"""A wheel built from the project, installed into an empty environment, captions a photograph far from any checkout."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from captioning.data.scenes.dataset import draw_scene

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_folder_of_the_package_is_in_the_wheel():
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "captioning").rglob("__init__.py")}
    assert folders | {"captioning.in_the_box"} == set(PROJECT["tool"]["setuptools"]["packages"])


def run(*command: str | Path, folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.whole
def test_a_wheel_captions_in_an_empty_environment(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "requirements.txt"):
        shutil.copy(ROOT / name, source)
    for name in ("captioning", "artifacts/flickr8k"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, source)
    run(sys.executable, *build, folder=tmp_path)
    wheel = next(tmp_path.glob("captioning-*.whl"))
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"captioning/in_the_box/{name}" for name in ("config.json", "model.weights.h5", "step.onnx")} <= names
    run(sys.executable, "-m", "venv", tmp_path / "empty", folder=tmp_path)
    python = tmp_path / "empty" / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(python, "-m", "pip", "install", "--quiet", wheel, folder=tmp_path)
    draw_scene(0, 0).image.save(tmp_path / "photo.png")
    told = run(python, "-m", "captioning", "caption", "photo.png", folder=tmp_path)
    assert len(told.split("\t")[1].split()) > 3
    refused = subprocess.run(
        [python, "-m", "captioning", "train", "--dataset", "scenes"], cwd=tmp_path, capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert refused.stderr.startswith("captioning: captioning train needs TensorFlow and Keras; install that part: ")
    size = sum(path.stat().st_size for path in (tmp_path / "empty").rglob("*") if path.is_file())
    assert size < 300 * 2**20, f"{size / 2**20:.0f} MB"
