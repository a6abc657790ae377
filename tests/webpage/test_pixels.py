"""The page's resizing gives the pixels of Pillow's."""

import base64

import numpy as np
import pytest
from PIL import Image

SCRIPT = """resize;
const found = given.map(({bytes, width, height, across, down, size}) => {
  const data = new Uint8ClampedArray(Buffer.from(bytes, 'base64'));
  return [...resize({data, width, height}, across, down, size)];
});
"""


@pytest.mark.parametrize(
    ("width", "height", "across", "down", "size"),
    [(64, 48, 64, 48, 32), (32, 32, 32, 32, 32), (20, 9, 20, 9, 32), (97, 61, 96.5, 60.25, 24)],
    ids=["smaller", "as it is", "larger", "a part of the last pixels"],
)
def test_pixels_are_those_of_pillow(node, width, height, across, down, size):
    colours = np.random.default_rng(0).integers(0, 256, (height, width, 4), dtype="uint8")
    wanted = Image.fromarray(colours[..., :3]).resize((size, size), Image.Resampling.BICUBIC, (0, 0, across, down))
    given = {"width": width, "height": height, "across": across, "down": down, "size": size}
    (found,) = node("pixels.js", SCRIPT, [{**given, "bytes": base64.b64encode(colours.tobytes()).decode()}])
    assert found == np.asarray(wanted).reshape(-1).tolist()
