"""The public names of the package: there at once, without the seconds that Keras takes."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

import captioning
from captioning.errors import BundleError

ROOT = Path(captioning.__file__).parents[1]
HEAVY = ("keras", "numpy", "PIL", "tensorflow")


def run(script: str) -> str:
    """What a fresh Python prints."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_the_public_names_can_be_imported():
    from captioning import Caption, Captioner, CaptioningError, errors, load
    from captioning.inference import caption, captioner

    assert (Caption, Captioner, CaptioningError) == (caption.Caption, captioner.Captioner, errors.CaptioningError)
    assert callable(load)
    assert set(captioning.__all__) <= set(dir(captioning))


def test_a_name_that_there_is_not_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Captain'"):
        _ = captioning.Captain
    with pytest.raises(ImportError):
        exec("from captioning import Captain")


def test_importing_the_package_loads_nothing_heavy():
    loaded = f"import sys; print([name for name in {HEAVY} if name in sys.modules])"
    assert run(f"import captioning; {loaded}").strip() == "[]"
    assert run(f"from captioning import load, CaptioningError; {loaded}").strip() == "[]"
    assert "keras" not in run(f"from captioning import Caption; {loaded}")


def test_importing_the_package_takes_no_time():
    script = "import time; before = time.process_time(); import captioning; print(time.process_time() - before)"
    assert min(float(run(script)) for _ in range(3)) < 0.15  # seconds of the processor


def test_without_a_name_the_captioner_in_the_box_is_loaded(monkeypatch, tmp_path):
    opened = []

    def load(path, **_):
        opened.append(path)
        return SimpleNamespace()

    monkeypatch.setattr("captioning.inference.bundle.load", load)
    monkeypatch.setattr(captioning, "ARTIFACTS", tmp_path)
    monkeypatch.setattr(captioning, "PACKAGED", tmp_path / "packaged")
    for folder in (tmp_path / "packaged", tmp_path / captioning.IN_THE_BOX):  # that of a checkout comes first
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        captioning.load()
    assert opened == [tmp_path / "packaged", tmp_path / captioning.IN_THE_BOX]
    captioning.load("artifacts/mine")
    assert opened[2] == "artifacts/mine"


def test_where_none_comes_along_a_captioner_must_be_named(monkeypatch, tmp_path):
    monkeypatch.setattr(captioning, "ARTIFACTS", tmp_path)
    monkeypatch.setattr(captioning, "PACKAGED", tmp_path)
    with pytest.raises(BundleError, match=r"No captioner was named and none lies in .*; give the folder of one"):
        captioning.load()


def test_a_captioner_comes_with_the_checkout():
    assert captioning.in_the_box().name == captioning.IN_THE_BOX


def test_the_package_is_typed_and_has_its_version():
    package = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "py.typed" in package["tool"]["setuptools"]["package-data"]["captioning"]
    assert (ROOT / "captioning" / "py.typed").is_file()
    assert captioning.__version__ == "0.2.0"
