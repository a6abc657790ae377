"""Write alt text of a folder's pictures to a CSV: python examples/caption_a_folder.py photos captions.csv"""

import csv
import sys
from pathlib import Path

import captioning

folder, output = Path(sys.argv[1]), Path(sys.argv[2])
pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"})
captions = captioning.load().caption(pictures, on_error="return")
with output.open("w", newline="", encoding="utf-8") as file:
    rows = csv.writer(file)
    rows.writerow(["picture", "caption", "sure"])
    for picture, caption in zip(pictures, captions, strict=True):
        if isinstance(caption, captioning.CaptioningError):
            print(caption, file=sys.stderr)
        else:
            rows.writerow([picture.name, caption.text, caption.sure])
