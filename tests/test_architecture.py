"""What is written about the project is true of it: imports between folders, the README, commands and flags."""

import argparse
import ast
import re
import shlex
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import captioning
from benchmarks import measure
from captioning.cli import build_parser
from captioning.training.settings import recipe_options

ROOT = Path(__file__).parent.parent
EMPTY = sorted((ROOT / "captioning").glob("*/**/__init__.py"))
MODULES = sorted(path for path in (ROOT / "captioning").rglob("*.py") if path not in EMPTY)
SCRIPTS = [*MODULES, ROOT / "train.py", ROOT / "app_gradio.py"]
BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))
TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py") if path.name != "__init__.py")
FRONT_PAGES = {*ROOT.glob("*.md"), *ROOT.glob("[!.]*/README.md")}
PROSE = sorted({*FRONT_PAGES, *ROOT.glob("docs/*.md")} - {ROOT / "docs/commands.md"})
README = (ROOT / "README.md").read_text(encoding="utf-8")

# A folder or module of captioning/ and what it may import, at its head or inside a function.
BELOW = {
    "errors": "",
    "plots": "",
    "runtime": "errors",
    "options": "errors",
    "data": "runtime options errors plots",
}
BELOW["encoders"] = BELOW["decoder"] = "data runtime options errors"
BELOW["inference"] = "encoders decoder " + BELOW["encoders"]
BELOW["evaluation"] = BELOW["extras"] = "inference plots " + BELOW["inference"]
BELOW["serving"] = "evaluation extras " + BELOW["evaluation"]
BELOW["training"] = "flags " + BELOW["serving"]
BELOW["app"] = "serving " + BELOW["serving"]
FRONT = {"__init__", "__main__", "cli", "commands"}  # may import anything; nothing below imports them
HEAVY = {"keras", "tensorflow", "torch", "jax", "onnx", "onnxruntime", "transformers", "huggingface_hub", "peft"}
KERAS_MODULES = {  # import Keras at their head; whoever imports these waits for it
    "decoder/compiled_search.py",
    "decoder/keras_ensemble.py",
    "decoder/languages.py",
    "decoder/model.py",
    "decoder/transfer.py",
    "inference/engine_keras.py",
    "training/batches.py",
    "training/callbacks.py",
    "training/from_feedback.py",
    "training/languages.py",
    "training/optimization.py",
    "training/recipe.py",
    "training/trainer.py",
}
UNSAFE_MODULES = {"dill", "joblib", "marshal", "pickle", "shelve", "yaml"}
UNSAFE_CALLS = {"eval", "exec", "pickle.load", "pickle.loads", "pickle.Unpickler"}
UNSAFE_KEYWORDS = {"allow_pickle": True, "safe_mode": False}
PACKAGE_OF = {  # where a module is not called like its package, or comes with another one
    "PIL": "pillow",
    "espeakng_loader": "espeakng-loader",
    "huggingface_hub": "transformers",
    "jwt": "PyJWT",
    "pillow_heif": "pillow-heif",
    "prometheus_client": "prometheus-client",
    "safetensors": "transformers",
    "sentry_sdk": "sentry-sdk",
}


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def folder_of(path: Path) -> str:
    """The folder of a module within captioning/, or its own name at the top."""
    return path.relative_to(ROOT / "captioning").parts[0].removesuffix(".py")


def imports_of(nodes) -> set[str]:
    """The dotted names that import statements name; of `from a import b` it is a.b."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def head_of(module: ast.Module) -> list[ast.stmt]:
    """The statements that run when a module is imported, those under `if TYPE_CHECKING` and in functions apart."""
    statements = []
    for node in module.body:
        if isinstance(node, ast.Try | ast.With) or (isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.dump(node)):
            statements += [inner for inner in ast.walk(node) if isinstance(inner, ast.stmt)]
        elif not isinstance(node, ast.If):
            statements.append(node)
    return statements


def ours(path: Path) -> set[str]:
    """The folders and top modules of captioning/ that a module imports."""
    names = [name.split(".") for name in imports_of(ast.walk(tree_of(path)))]
    return {name[1] if len(name) > 1 else "__init__" for name in names if name[0] == "captioning"}


def test_a_folder_imports_only_those_below_it():
    for path in MODULES:
        if (folder := folder_of(path)) not in FRONT:
            allowed = {folder, "load", "__init__", *BELOW[folder].split()}
            assert ours(path) <= allowed, f"{path}: {ours(path) - allowed}"


def test_the_package_has_few_entries():
    entries = {folder_of(path) for path in MODULES}
    assert entries == FRONT | set(BELOW)
    assert len(entries) <= 18


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_modules_import_each_other_in_a_circle():
    names = {module_name(path) for path in MODULES}
    graph = {}
    for path in MODULES:
        heads = imports_of(head_of(tree_of(path)))
        graph[module_name(path)] = (names & (heads | {name.rpartition(".")[0] for name in heads})) - {"captioning"}
    list(TopologicalSorter(graph).static_order())


def test_nothing_imports_the_recipe_or_a_backend():
    for path in MODULES:
        roots = {name.partition(".")[0] for name in imports_of(ast.walk(tree_of(path)))}
        loads_published = path.match("extras/*.py")  # models of transformers, which compute with torch
        assert not roots & ({"train", "tests", "tensorflow", "jax"} | (set() if loads_published else {"torch"})), path


def test_published_models_are_loaded_in_one_folder_alone():
    for path in MODULES:
        roots = {name.partition(".")[0] for name in imports_of(ast.walk(tree_of(path)))}
        assert path.match("extras/*.py") or not roots & {"transformers", "huggingface_hub", "peft"}, path
        assert not {name.partition(".")[0] for name in imports_of(head_of(tree_of(path)))} & (HEAVY - {"keras"}), path


def test_keras_is_imported_at_the_head_of_a_few_modules_alone():
    heads = {path: imports_of(head_of(tree_of(path))) for path in MODULES}
    found = {path for path, names in heads.items() if "keras" in {name.partition(".")[0] for name in names}}
    assert {path.relative_to(ROOT / "captioning").as_posix() for path in found} == KERAS_MODULES


def loaded_by(*modules: str) -> set[str]:
    """The modules that a fresh Python holds after importing these."""
    script = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_empty_packages_hold_nothing():
    assert EMPTY
    assert not any(path.read_text() for path in EMPTY)


def test_the_front_door_is_light():
    assert not loaded_by("captioning") & {*HEAVY, "numpy", "PIL"}


def test_modules_that_need_no_keras_do_not_wait_for_it():
    heads = {module_name(path): imports_of(head_of(tree_of(path))) for path in MODULES}
    waiting = {"captioning." + name.removesuffix(".py").replace("/", ".") for name in KERAS_MODULES}
    for _ in heads:
        waiting |= {
            module for module, names in heads.items() if any(wait in name for name in names for wait in waiting)
        }
    light = set(heads) - waiting - {"captioning.__main__"}
    light = {name for name in light if not name.startswith("captioning.app")}
    assert len(light) > 15
    loaded = loaded_by(*light)
    assert light <= loaded
    assert not loaded & {*HEAVY, "nltk", "pandas", "matplotlib"}


@pytest.mark.parametrize("path", [*SCRIPTS, *BENCHMARKS, *TESTS], ids=lambda path: path.name)
def test_every_module_says_what_it_is_for(path):
    told = ast.get_docstring(tree_of(path))
    assert told, path
    assert len(told.splitlines()) <= (12 if path.name == "errors.py" else 8)  # errors.py draws its tree


def test_modules_tests_and_functions_are_short():
    for path in (*SCRIPTS, *BENCHMARKS, *TESTS):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path
    for path in (*SCRIPTS, *BENCHMARKS):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno - node.lineno < 60, f"{path}: {node.name}"


def test_no_file_can_run_code():
    for path in (*SCRIPTS, *BENCHMARKS):
        nodes = list(ast.walk(tree_of(path)))
        unsafe = {name for name in imports_of(nodes) if name.partition(".")[0] in UNSAFE_MODULES}
        assert unsafe <= ({"pickle"} if path.name == "tokenizer.py" else set()), path
        for call in (node for node in nodes if isinstance(node, ast.Call)):
            assert ast.unparse(call.func) not in UNSAFE_CALLS, f"{path}:{call.lineno}"
            for keyword in call.keywords:
                value = getattr(keyword.value, "value", None)
                assert UNSAFE_KEYWORDS.get(keyword.arg, "none") != value, f"{path}:{call.lineno}"


def requirements() -> list[Requirement]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def optional_requirements() -> list[Requirement]:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    every = [Requirement(line) for lines in groups.values() for line in lines]
    return [one for one in every if one.name != "captioning"]  # a group that holds other groups


def test_those_for_a_gpu_differ_in_tensorflow_alone():
    def others(name: str) -> list[str]:
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        return [line for line in lines if not line.startswith(("#", "tensorflow"))]

    assert others("requirements-gpu.txt") == others("requirements.txt")


@pytest.mark.parametrize("requirement", [*requirements(), *optional_requirements()], ids=str)
def test_versions_are_bounded_on_both_sides(requirement):
    signs = {specifier.operator for specifier in requirement.specifier}
    assert signs & {"==", "~=", ">=", ">"}
    assert signs & {"==", "~=", "<=", "<"}


def test_no_version_with_a_known_hole_is_allowed():
    oldest = {  # SECURITY.md names the advisories
        "gradio": "6.20",
        "keras": "3.15.1",
        "matplotlib": "3.10.9",
        "nltk": "3.10.4",
        "pillow": "12.3.0",
        "pillow-heif": "1.8.1",
        "PyJWT": "2.13",
        "python-multipart": "0.0.31",
        "onnx": "1.22",
        "ray": "2.56",
        "starlette": "1.3.1",
        "torch": "2.13.0",
    }
    floors = [
        (one.name, max(Version(part.version) for part in one.specifier if part.operator in {"==", ">="}))
        for one in (*requirements(), *optional_requirements())
    ]
    assert {name for name, _ in floors} >= set(oldest)
    for name, floor in floors:
        assert floor >= Version(oldest.get(name, "0")), name


def test_what_is_imported_is_required():
    paths = (*SCRIPTS, *BENCHMARKS)
    roots = {name.partition(".")[0] for path in paths for name in imports_of(ast.walk(tree_of(path)))}
    foreign = roots - sys.stdlib_module_names - {"captioning", "benchmarks"}
    known = {requirement.name for requirement in (*requirements(), *optional_requirements())}
    assert {PACKAGE_OF.get(name, name) for name in foreign} <= known


def test_the_design_page_names_every_folder():
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    folders = {path.parent.name for path in EMPTY if path.parent.parent == ROOT / "captioning"}
    assert set(re.findall(r"^\| `captioning/(\w+)/` \|", page, re.MULTILINE)) == folders


def commands() -> list[list[str]]:
    """Every command line that prose and Makefile show, in words, without its comment."""
    texts = [path.read_text(encoding="utf-8") for path in (*PROSE, ROOT / "Makefile", ROOT / "train.py")]
    lines = re.findall(r"(?:^|[\s`/])(python (?:train\.py|-m captioning) ?[^`\n]*)", "\n".join(texts), re.MULTILINE)
    return [shlex.split(re.split(r" {3,}", line)[0], comments=True) for line in lines]


def test_every_command_shown_can_be_given():
    shown = [command for command in commands() if "--help" not in command]
    trainings = [["train", *command[2:]] for command in shown if command[1] == "train.py"]
    others = [command[3:] for command in shown if command[1] == "-m"]
    assert len(trainings) >= 4
    assert len(others) >= 3
    for arguments in (*trainings, *others):
        flags = build_parser().parse_args(arguments)
        assert flags.command == arguments[0]
        if arguments[0] == "train":
            recipe_options(flags)


def flags_of(parser: argparse.ArgumentParser) -> set[str]:
    flags = set()
    for action in parser._actions:
        flags |= set(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            flags = flags.union(*map(flags_of, action.choices.values()))
    return flags


def test_every_flag_in_prose_exists():
    parsers = (build_parser(), measure.flag_parser())
    known = {"--rm", "--read-only", "--tmpfs", "--from-file"}.union(*map(flags_of, parsers))  # of docker and kubectl
    for path in (*PROSE, *SCRIPTS):
        flags = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", path.read_text(encoding="utf-8")))
        assert flags <= known, path


def test_every_make_target_shown_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", README)) <= targets


def test_the_python_in_the_readme_names_what_there_is():
    from captioning.inference.captioner import Caption, Captioner, Word

    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    known = {*captioning.__all__, *dir(Captioner), *Caption.__dataclass_fields__, *Word.__dataclass_fields__}
    known |= {*dir(Caption), "predict"}  # the latter of gradio_client.Client
    for block in blocks:
        assert {node.attr for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Attribute)} <= known


def test_the_front_door_offers_what_it_says():
    assert all(callable(getattr(captioning, name)) for name in captioning.__all__)
