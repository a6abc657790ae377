"""The notebook runs from a clean kernel, and what is committed of it is a full run that can be shown to people."""

import ast
import base64
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioning.cli import build_parser

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "notebooks" / "image_captioning.ipynb"
FIGURES = {"pictures", "grid", "curves", "rising", "strip", "walk", "alike", "mistakes"}  # the cells that draw one
LARGEST = 3_000_000  # bytes of the committed file
LONGEST = 10  # lines of a cell besides its imports; what needs more belongs into the package
FOLDERS = re.escape(f"{Path.home()}/")  # of whoever runs the tests
THIS_MACHINE = re.compile(FOLDERS + r"|/home/|/Users/|/tmp/|/usr/|site-packages|[A-Z]:\\|\d\d:\d\d|\d{4}-\d\d-\d\d")


def cells_of(book, kind: str) -> dict:
    """The cells of this kind by their names."""
    return {cell["id"]: cell for cell in book["cells"] if cell["cell_type"] == kind}


def source_of(cell) -> str:
    return "".join(cell["source"])


def outputs_of(book) -> list[tuple[str, dict]]:
    """Every output with the name of its cell."""
    return [(name, output) for name, cell in cells_of(book, "code").items() for output in cell["outputs"]]


def told_by(book) -> dict[str, str]:
    """What each cell printed and returned, as text."""
    told = {name: "" for name in cells_of(book, "code")}
    for name, output in outputs_of(book):
        told[name] += "".join(output.get("text", "")) + "".join(output.get("data", {}).get("text/plain", ""))
    return told


def figures_of(book) -> dict[str, Image.Image]:
    """The figures by the name of the cell that drew them."""
    drawn = {name: output["data"] for name, output in outputs_of(book) if "image/png" in output.get("data", {})}
    pngs = {name: base64.b64decode("".join(data["image/png"])) for name, data in drawn.items()}
    return {name: Image.open(io.BytesIO(png)) for name, png in pngs.items()}


def check(book) -> None:
    """What holds of any run: in order, without an error or a warning, with every figure."""
    code = cells_of(book, "code").values()
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert {output["output_type"] for _, output in outputs_of(book)} == {"stream", "execute_result"}
    assert not [output for _, output in outputs_of(book) if output.get("name") == "stderr"]
    assert not re.search("warning", "".join(told_by(book).values()), re.IGNORECASE)
    figures = figures_of(book)
    assert figures.keys() == FIGURES
    assert all(np.asarray(figure.convert("L")).std() > 10 for figure in figures.values()), "an empty figure"
    assert figures["walk"].n_frames > 2


@pytest.fixture(scope="module")
def committed():
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))


@pytest.fixture
def working_copy(tmp_path, monkeypatch):
    """A folder with all that the notebook needs, and Jupyter's own folders, so that no file of the user is touched."""
    shutil.copytree(ROOT / "captioning", tmp_path / "captioning", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "train.py", tmp_path)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / ".jupyter").mkdir()
    shutil.copy(NOTEBOOK, tmp_path / "notebooks")
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / ".jupyter" / name.lower()))
    monkeypatch.setenv("CAPTIONING_SMOKE", "1")
    return tmp_path


@pytest.mark.whole
def test_it_runs_from_a_clean_kernel(working_copy):
    nbclient = pytest.importorskip("nbclient", reason="running the notebook needs pip install '.[dev]'")
    pytest.importorskip("ipykernel", reason="running the notebook needs pip install '.[dev]'")
    import nbformat

    book = nbformat.read(working_copy / "notebooks" / NOTEBOOK.name, 4)
    place = {"metadata": {"path": str(working_copy / "notebooks")}}
    nbclient.NotebookClient(book, timeout=180, kernel_name="python3", resources=place).execute()
    check(book)
    assert {path.name for path in (working_copy / "artifacts").iterdir()} == {"notebook"}
    assert (working_copy / "artifacts" / "notebook" / "config.json").is_file()
    assert {path.name for path in (working_copy / "data").iterdir()} == {"cache", "scenes-smoke"}


def test_what_is_committed_is_a_full_run(committed):
    check(committed)
    told = told_by(committed)
    assert told["fit"].count("epoch ") >= 8
    assert "test split, 200 images" in told["scores"]
    learnt, blind = (re.findall(rf"CIDEr-D{text} +([\d.]+)", told["scores"])[1] for text in ("", ", images shuffled"))
    assert float(learnt) > 2 > 5 * float(blind)


def test_what_is_committed_is_small_and_of_no_machine(committed):
    assert NOTEBOOK.stat().st_size < LARGEST
    assert committed["metadata"].keys() <= {"kernelspec", "language_info"}
    assert committed["metadata"]["kernelspec"]["name"] == "python3"
    assert not any(cell["metadata"] for cell in committed["cells"])
    texts = [*told_by(committed).values(), *(source_of(cell) for cell in committed["cells"])]
    found = [match for text in texts for match in THIS_MACHINE.findall(text)]
    assert not found


def test_it_defines_nothing_that_the_package_should(committed):
    for name, cell in cells_of(committed, "code").items():
        tree = ast.parse(source_of(cell))
        done = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
        assert sum(node.end_lineno - node.lineno + 1 for node in done) <= LONGEST, name
        nodes = list(ast.walk(tree))
        assert not [node for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Try)], name


@pytest.mark.parametrize("folder", [".", "notebooks"])
def test_it_finds_the_project(committed, folder):
    script = source_of(cells_of(committed, "code")["root"]) + "\nprint(Path.cwd() == Path(sys.argv[1]), sys.path[0])"
    command = [sys.executable, "-c", script, str(ROOT)]
    done = subprocess.run(command, cwd=ROOT / folder, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", str(ROOT)]


def test_alone_it_gets_the_project(committed, tmp_path):
    alone = """
import importlib.util, os, subprocess
importlib.util.find_spec = lambda name: None
subprocess.run = lambda command, check: print(*command) or os.makedirs("captioning-project", exist_ok=True)
"""
    script = alone + source_of(cells_of(committed, "code")["root"]) + "\nprint(Path.cwd(), sys.path[0], PROJECT_URL)"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    clone, install, (here, path, url) = map(str.split, done.stdout.splitlines())
    project = str(tmp_path / "captioning-project")
    assert clone == ["git", "clone", "--depth", "1", url, project]
    assert install[1:4] == ["-m", "pip", "install"]
    assert install[-1].startswith(f"{project}/requirements")
    assert here == path == project


def test_photographs_that_are_not_there_are_skipped_in_a_sentence(committed):
    assert told_by(committed)["photos"].startswith("Skipped: the folder photos holds no photographs.")


def test_one_line_chooses_the_data(committed):
    chosen = [line for cell in committed["cells"] for line in source_of(cell).splitlines() if "scenes" in line]
    assert 'data = DataOptions(dataset="scenes")' in chosen
    assert sum("dataset=" in line for line in chosen) == 1


def test_every_command_it_shows_can_be_given(committed):
    prose = "\n".join(map(source_of, cells_of(committed, "markdown").values()))
    shown = [shlex.split(line) for line in re.findall(r"python ((?:-m captioning|app_gradio\.py) [^`\n]*)", prose)]
    assert len(shown) >= 3
    for first, *others in shown:
        build_parser().parse_args(others[1:] if first == "-m" else ["app", *others])
