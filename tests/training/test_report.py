"""A captioner whose dev split is too small for a calibration has that of its base model, or says that it has none."""

from types import SimpleNamespace

import pytest

from captioning.evaluation.scoring import ScoredSplit, Scores
from captioning.inference.confidence import Calibration
from captioning.training.report import choose_calibration

OWN, BASE = Calibration(1.0, 2.0, 3.0), Calibration(4.0, 5.0, 6.0)


@pytest.mark.parametrize(
    ("own", "base", "chosen", "says"),
    [
        (OWN, BASE, OWN, []),
        (OWN, None, OWN, []),
        (None, BASE, BASE, ["Its confidence is that of its base model flickr8k, measured on other images: "]),
        (None, None, None, ["Its confidence is unknown: "]),
    ],
)
@pytest.mark.parametrize("has_base", [True, False])
def test_which_calibration_a_captioner_has(own, base, chosen, says, has_base):
    if base and not has_base:
        pytest.skip("there is no base model to take one from")
    scores = Scores({"dev": ScoredSplit([], [], {"images": 5})}, own)
    captioner = SimpleNamespace(calibration=base) if has_base else None
    found, notes = choose_calibration(scores, captioner, "flickr8k")
    assert found == chosen
    assert len(notes) == len(says)
    for note, wanted in zip(notes, says, strict=True):
        assert note.startswith(wanted)
        assert note.endswith("there are 5 dev images.")
