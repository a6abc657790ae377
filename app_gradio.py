#!/usr/bin/env python
"""Open the app in a browser: the same as `python -m captioning app`.

python app_gradio.py                                 every bundle in artifacts/, on http://127.0.0.1:7860
python app_gradio.py --bundle artifacts/scenes       this one alone
python app_gradio.py --share                         also a public link, behind a password that is made up
"""

import sys
from collections.abc import Sequence

from captioning import cli


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command `app` with these arguments, or with those of the command line."""
    return cli.main(["app", *(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    sys.exit(main())
