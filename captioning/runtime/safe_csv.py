"""CSV rows that no spreadsheet runs as formulas."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable

FORMULA = re.compile(r"\s*['=+@-]|\s")  # what a spreadsheet may run, and the mark that keeps it from that


def csv_row(cells: Iterable[str | float | None]) -> str:
    """A line of CSV: each text in quotes, and with a mark before it where a spreadsheet may take it for a formula."""
    row = io.StringIO()
    csv.writer(row, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n").writerow(map(_safe, cells))
    return row.getvalue()


def _safe(cell: str | float | None) -> str | float | None:
    return f"'{cell}" if isinstance(cell, str) and FORMULA.match(unicodedata.normalize("NFKC", cell)) else cell
