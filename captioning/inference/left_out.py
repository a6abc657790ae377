"""The captions of too low a confidence, in a CSV file of their own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from captioning.errors import DataError
from captioning.inference.confidence import verdict_of
from captioning.inference.records import csv_cells, name_of, record_of, whole_lines
from captioning.inference.writers import CaptionWriter, LinesWriter, OutputOptions
from captioning.runtime.files import atomic_write


class LeftOut:
    """The captions of too low a confidence, in a CSV file of their own where there is one.

    An image in it is done. A row of an earlier run is dropped if `writer` holds the image's caption by now, or if its
    confidence reaches the threshold by now.
    """

    def __init__(self, options: OutputOptions, writer: CaptionWriter) -> None:
        self.threshold, self.path, self.place = options.threshold, options.left_out, options.place
        self.rows: dict[str, tuple[str, float | None, str]] = {}  # image -> caption, confidence, verdict
        self._writer, self._wording, self._file = writer, options.wording, None
        if self.path:
            same = {name: getattr(options, name) for name in ("alt_text", "alt_length", "prefix", "suffix")}
            as_csv = OutputOptions(output=self.path, **same)
            if self.path.exists():
                self._refuse_others(self.path, as_csv)
                self._keep(self.path, start_anew=options.if_exists == "overwrite")
            self._file = LinesWriter(self.path, as_csv, several=False)

    def _refuse_others(self, path: Path, as_csv: OutputOptions) -> None:
        try:
            LinesWriter(path, as_csv, several=False)
        except DataError:
            raise DataError(
                f"{path} is needed for the captions that are left out, and holds something else; rename it."
            ) from None

    def _keep(self, path: Path, *, start_anew: bool) -> None:
        lines, kept = list(whole_lines(path)), []
        for line in () if start_anew else lines[1:]:
            row = dict(zip(csv_cells(lines[0]), csv_cells(line), strict=True))
            known = float(row["confidence"]) if row["confidence"] else None
            verdict = row.get("verdict") or verdict_of(known)
            if Path(row["image"]) not in self._writer and self.is_too_low(known, verdict):
                kept.append(line)
                self.rows[row["image"]] = row["caption"], known, verdict
        if kept:
            atomic_write(path, lines[0] + "".join(kept))
        else:
            path.unlink()

    def is_too_low(self, confidence: float | None, verdict: str) -> bool:
        """Whether a caption is left out: above 0, any threshold leaves out what is unknown or unfamiliar."""
        is_low = confidence is None or verdict in ("unfamiliar", "not calibrated") or confidence < self.threshold
        return self.threshold > 0 and is_low

    def __contains__(self, image: Path) -> bool:
        return name_of(image) in self.rows

    def forget(self, images: Sequence[Path]) -> None:
        """Lets these images be captioned anew."""
        for name in map(name_of, images):
            self.rows.pop(name, None)
        if self._file:
            self._file.forget(images)

    def add(self, captions: Mapping[Path, Any]) -> None:
        """Notes the captions that are left out."""
        for image, caption in captions.items():
            record = record_of(image, caption, worded=self._wording, several=False, attention=False)
            self.rows[record["image"]] = record["caption"], caption.confidence, caption.verdict
        if self._file and captions:
            self._file.add(captions)
