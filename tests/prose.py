"""How readable the project is, in figures: `python -m tests.prose` prints them; test_prose.py holds the limits."""

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
GENERATED = {"docs/commands.md"}
ABBREVIATION = re.compile(r"\b(e\.g|i\.e|etc|vs|approx|No)\.", re.IGNORECASE)


def documents() -> list[Path]:
    """The pages that people read, generated ones left out."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")]
    return sorted(page for page in pages if page.relative_to(ROOT).as_posix() not in GENERATED)


def sentences(text: str) -> list[str]:
    """The sentences of a page's paragraphs and list items, without code, tables, headings, pictures and addresses."""
    text = re.sub(r"```.*?```", "\n\n", text, flags=re.DOTALL)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]*`", "code", text)
    lines = ["" if re.match(r"\s*(\||#|<|\*date: )", line) else line for line in text.splitlines()]
    lines = [re.sub(r"^\s*([-*]|\d+\.)\s+", "\n\n", line) for line in lines]
    found = []
    for block in re.split(r"\n\s*\n", "\n".join(lines)):
        block = ABBREVIATION.sub(lambda match: match[1], " ".join(block.split()))
        found += [part for part in re.split(r"(?<=[.!?:])\s+(?=[\"'(A-Z*0-9c])", block) if re.search(r"\w", part)]
    return found


def words(sentence: str) -> int:
    """How many words a sentence has."""
    return len(re.findall(r"[\w'.,%-]*\w[\w'%-]*", sentence))


def functions(folder: str = "captioning") -> Iterator[tuple[str, int]]:
    """Every function of the code with its number of lines, the docstring not counted."""
    for path in sorted([*(ROOT / folder).rglob("*.py"), ROOT / "train.py", ROOT / "app_gradio.py"]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[0]
                told = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) else 0
                yield f"{path.relative_to(ROOT)}:{node.name}", node.end_lineno - node.lineno + 1 - told


def annotations(folder: str = "captioning") -> Iterator[str]:
    """Every annotation of an argument, a result or a field, as it is written."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation:
                yield ast.unparse(node.annotation)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns:
                yield ast.unparse(node.returns)


def figures() -> dict[str, float]:
    """What the limits are about."""
    texts = [page.read_text(encoding="utf-8") for page in documents()]
    found = [sentence for text in texts for sentence in sentences(text)]
    lines = sorted(count for _, count in functions())
    types = list(annotations())
    return {
        "sentences": len(found),
        "semicolons per 100 sentences": round(100 * sum(one.count(";") for one in found) / len(found), 1),
        "median words of a sentence": statistics.median(map(words, found)),
        "most words of a sentence": max(map(words, found)),
        "functions": len(lines),
        "90th percentile of a function's lines": lines[int(0.9 * len(lines))],
        "most lines of a function": lines[-1],
        "bare Any, % of annotations": round(100 * types.count("Any") / len(types), 1),
        "lines of README.md": len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()),
    }


if __name__ == "__main__":
    for page in documents():
        found = sentences(page.read_text(encoding="utf-8"))
        if found:
            semicolons = 100 * sum(one.count(";") for one in found) / len(found)
            longest = max(found, key=words)
            print(
                f"{page.relative_to(ROOT)}: {len(found)} sentences, {semicolons:.0f} semicolons per 100, median",
                end=" ",
            )
            print(f"{statistics.median(map(words, found)):g} words, longest {words(longest)}: {longest[:60]} ...")
    for name, value in figures().items():
        print(f"{name:<40}{value:g}")
