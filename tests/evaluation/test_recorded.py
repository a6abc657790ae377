"""The captions that published models gave ten COCO pictures have the scores that the COCO tools give them."""

import json
import os
import re
from pathlib import Path

import pytest

from captioning.evaluation import metrics
from captioning.evaluation.predictions import tokens as our_tokens

PICTURES = "CAPTIONING_COCO10"  # a folder with recorded captions of ten pictures of COCO, five references each
SCORES = {  # by the COCO tools, on lower-cased tokens with spaces for punctuation
    "blip": (0.534, 0.161, 0.152, 0.400),
    "blip2": (0.500, 0.000, 0.378, 0.362),
    "git": (0.625, 0.206, 0.541, 0.475),
    "vit_gpt2": (0.353, 0.034, 0.121, 0.312),
}


def spaced(text):
    return " ".join(re.sub(r"[^a-z0-9]", " ", text.lower()).split())


@pytest.mark.skipif(PICTURES not in os.environ, reason=f"{PICTURES} names no folder")
@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize(("split", "tolerance"), [("spaces", 6e-4), ("ours", 3e-3)])
def test_recorded_captions_have_the_scores_of_the_coco_tools(name, split, tolerance):
    tokens = spaced if split == "spaces" else our_tokens
    file = Path(os.environ[PICTURES], "model_captions", f"local_evaluation_{name}.json")
    records = [each for key, each in json.loads(file.read_text()).items() if key.startswith("image_")]
    said = [tokens(next(iter(each["model_results"].values()))) for each in records]
    references = [[tokens(text) for text in each["ground_truth"]] for each in records]
    found = metrics.score(said, references, resamples=1)
    values = [found[score].value for score in ("BLEU-1", "BLEU-4", "CIDEr-D", "ROUGE-L")]
    assert len(records) == 10
    assert values == pytest.approx(SCORES[name], abs=tolerance)
