"""CSV rows whose cells a spreadsheet does not run as formulas."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable

FORMULA = re.compile(r"\s*['=+@-]|\s")  # what a spreadsheet may run, and the quote that prevents it


def csv_row(cells: Iterable[str | float | None]) -> str:
    """A line of CSV. Texts are quoted. A text that a spreadsheet may take for a formula starts with an apostrophe."""
    row = io.StringIO()
    csv.writer(row, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n").writerow(map(_safe, cells))
    return row.getvalue()


def _safe(cell: str | float | None) -> str | float | None:
    return f"'{cell}" if isinstance(cell, str) and FORMULA.match(unicodedata.normalize("NFKC", cell)) else cell
