#!/usr/bin/env python
"""Train a captioner: the same as `python -m captioning train`.

python train.py                       Flickr8k with ResNet50, fetching what is missing
python train.py --dataset scenes      the built-in drawn scenes; nothing is fetched
python train.py --data my-pictures    your own captioned pictures, in any common layout
"""

import sys
from collections.abc import Sequence

from captioning import cli


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command `train` with these arguments, or with those of the command line."""
    return cli.main(["train", *(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    sys.exit(main())
