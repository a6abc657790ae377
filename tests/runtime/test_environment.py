"""A required package that is missing ends in one sentence that says what to activate or install."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from captioning.errors import CaptioningError
from captioning.runtime import environment
from captioning.runtime.environment import BASE, EXTRAS, explain_missing_packages

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "PIL": "pillow",
    "multipart": "python-multipart",
    "jwt": "PyJWT",
    "prometheus_client": "prometheus-client",
    "espeakng_loader": "espeakng-loader",
}  # where a module is not called like its package
BESIDE = {"hf", "lora", "speech"}  # parts that requirements.txt leaves out


def sentence_about(name: str, command: str = "") -> str:
    with pytest.raises(CaptioningError) as refused, explain_missing_packages(command):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return str(refused.value)


def packages_of(modules: set[str]) -> set[str]:
    return {PACKAGES.get(name, name) for name in modules}


def names_in(lines: list[str]) -> set[str]:
    return {Requirement(line).name for line in lines} - {"tensorflow-cpu"}


def test_the_modules_are_those_of_the_requirements():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert packages_of(BASE) == names_in(project["dependencies"])
    for extra, (_, modules) in EXTRAS.items():
        assert packages_of(modules) == names_in(project["optional-dependencies"][extra])


def test_the_requirements_are_all_of_them_in_the_same_versions():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    parts = project["dependencies"] + [
        line for extra in EXTRAS.keys() - BESIDE for line in project["optional-dependencies"][extra]
    ]
    assert {str(Requirement(line)) for line in lines if line and line[0] != "#"} == {
        str(Requirement(line)) for line in parts
    }


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of the project with what make sets up, seen from a Python elsewhere."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").touch()
    (tmp_path / "requirements.txt").touch()
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    return tmp_path


def test_outside_the_environment_the_sentence_activates_it(project, monkeypatch):
    sentence = f"tqdm is not installed for {sys.executable}; activate the environment that has it: source "
    assert sentence_about("tqdm.auto") == f"{sentence}{project}/.venv/bin/activate"
    monkeypatch.chdir(project)
    assert sentence_about("tqdm") == f"{sentence}.venv/bin/activate"


def test_without_an_environment_or_within_it_the_sentence_installs(project, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "prefix", str(project / ".venv"))
    remedy = f"install the requirements: {sys.executable} -m pip install -r requirements.txt"
    assert sentence_about("numpy").endswith(remedy)
    (project / ".venv" / "bin" / "activate").unlink()
    assert sentence_about("numpy").endswith(remedy)
    (project / "requirements.txt").unlink()
    assert "install captioning again" in sentence_about("PIL.Image")


@pytest.mark.parametrize(
    ("module", "sentence"),
    [
        ("keras.src", "captioning train needs TensorFlow and Keras; install that part: {} -m pip install '{}[train]'"),
        ("gradio", "captioning train needs Gradio; install that part: {} -m pip install '{}[app]'"),
    ],
)
def test_an_optional_part_is_named(project, monkeypatch, module, sentence):
    (project / ".venv" / "bin" / "activate").unlink()
    for where, package in ((project, "."), (project.parent, f"{project}/")):
        monkeypatch.chdir(where)
        assert sentence_about(module, "train") == sentence.format(sys.executable, package)
    (project / "requirements.txt").unlink()
    assert sentence_about(module, "train") == sentence.format(sys.executable, "captioning")


@pytest.mark.parametrize("name", ["captioning.nothing", "jax", None])
def test_any_other_missing_module_stays_a_traceback(name):
    with pytest.raises(ModuleNotFoundError), explain_missing_packages():
        raise ModuleNotFoundError("No such module", name=name)


def test_the_command_line_without_its_packages_ends_in_one_sentence(tmp_path):
    (tmp_path / "a.png").touch()
    bare = [sys.executable, "-I", "-S", "-c"]  # a Python without packages
    script = f"import sys; sys.path.append({str(ROOT)!r}); from captioning.cli import main; sys.exit(main())"
    done = subprocess.run(
        [*bare, script, "caption", "a.png"], cwd=tmp_path, capture_output=True, text=True, env=os.environ
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"captioning: (tqdm|numpy) is not installed for .+; .+\n", done.stderr)
