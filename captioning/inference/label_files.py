"""The labels of pictures as CSV or JSON."""

from collections.abc import Mapping
from pathlib import Path

from captioning.errors import CaptioningError
from captioning.inference.labels import Labels
from captioning.runtime import strict_json
from captioning.runtime.safe_csv import csv_row

SUFFIXES = (".csv", ".json")
COLUMNS = ("image", "rank", "label", "probability")


def check_name(path: Path | None) -> None:
    """Refuses the name of a file that labels cannot be written to."""
    if path and path.suffix.lower() not in SUFFIXES:
        raise CaptioningError(f"{path} cannot be written: a name that ends in .csv or .json was expected.")


def text_of(found: Mapping[Path, Labels], suffix: str) -> str:
    """All labels of all pictures, a row each, or a record for each picture."""
    if suffix == ".csv":
        rows = [
            (str(image), rank, label.text, round(label.probability, 6))
            for image, labels in found.items()
            for rank, label in enumerate(labels.found, 1)
        ]
        return csv_row(COLUMNS) + "".join(map(csv_row, rows))
    records = [
        {
            "image": str(image),
            "labels": [{"label": each.text, "probability": round(each.probability, 6)} for each in labels.found],
            "unknown": list(labels.unknown),
            "summary": labels.summary(),
        }
        for image, labels in found.items()
    ]
    return strict_json.dumps(records, ensure_ascii=False, indent=2) + "\n"
