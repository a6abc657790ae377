"""How much of its base model a captioner keeps: what a flag says, else what dev images show."""

from pathlib import Path

import numpy as np
import pytest

from captioning.encoders.features import Features
from captioning.options import RecipeOptions, RunOptions, TrainOptions
from captioning.training import recipe
from captioning.training.inputs import Inputs, TrainingData


@pytest.mark.parametrize(
    ("unset", "num_dev", "chosen"), [({"keep_base"}, 5, 0.0), ({"keep_base"}, 4, 0.8), ({"epochs"}, 5, 0.8)]
)
def test_the_fraction_of_the_base_model_is_chosen_on_dev_where_no_flag_sets_it(
    parts, monkeypatch, capsys, unset, num_dev, chosen
):
    gains = iter([np.zeros(5), np.full(5, 1.0), np.full(5, 2.0)])
    monkeypatch.setattr(recipe, "score_images", lambda *_: next(gains))
    images = [Path(f"{number}.jpg") for number in range(6)]
    splits = {"train": {images[5]: ["a dog"]}, "dev": {image: ["a dog"] for image in images[:num_dev]}}
    options = RecipeOptions(training=TrainOptions(keep_base=0.8), run=RunOptions(bundle="one"), unset=frozenset(unset))
    grids = Features(np.zeros((1, 9, 8)), {})
    initial = trained = parts.model.get_weights()
    data = TrainingData("own", Path(), splits, {})
    assert recipe.mix_base(parts, initial, Inputs(parts.model.encoder, grids, None), data, options) == chosen
    for own, wanted in zip(parts.model.get_weights(), trained, strict=True):
        np.testing.assert_allclose(own, wanted, rtol=1e-5, atol=1e-6)
    assert ("--keep-base 0 chosen on 5 dev images" in capsys.readouterr().out) == (chosen == 0)
