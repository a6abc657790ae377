"""Flags become the options of a training; the script train.py takes the same ones as the command."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from captioning import cli
from captioning.errors import DataError
from captioning.options import DecodeOptions, RecipeOptions
from captioning.training.settings import adapt_to_base, adapt_to_size, recipe_options

ROOT = Path(__file__).parents[2]


def options_of(*flags: str) -> RecipeOptions:
    return recipe_options(cli.build_parser().parse_args(["train", *flags]))


@pytest.mark.parametrize(("starts", "rate"), [([], 1e-3), (["--from-feedback", "some.db"], 3e-4)])
def test_a_smoke_test_is_tiny_whatever_it_starts_from(starts, rate):
    training = options_of("--data", "mine", "--smoke", "--bundle", "one", *starts).training
    assert (training.epochs, training.learning_rate) == (1, rate)


def test_a_flag_wins_over_what_suits_the_data():
    assert options_of("--dataset", "scenes").model.encoder == "tiny"
    assert options_of("--dataset", "scenes", "--encoder", "resnet50").model.encoder == "resnet50"
    assert options_of("--dataset", "scenes", "--data", "mine").model.encoder == "resnet50"


@pytest.mark.parametrize("num_images", [3, 40, 80, 400, 1600])
def test_few_images_and_a_bundle_have_defaults_of_their_own_which_are_told(num_images, capsys):
    options = adapt_to_size(options_of("--data", "mine", "--bundle", "one"), num_images)
    told = capsys.readouterr().out
    assert told.startswith(f"Defaults for {num_images:,} training images that start from one: --epochs ")
    assert told.count("\n") == 1
    for record in (options.words, options.training):
        for entry in fields(record):
            if f"--{entry.name.replace('_', '-')} " in told:
                value = getattr(record, entry.name)
                assert f"--{entry.name.replace('_', '-')} {value:g}" in told
    assert options.training.reinforce_epochs == 0
    assert 0 < options.training.keep_base < 1


def test_a_flag_wins_over_what_suits_few_images(capsys):
    flags = ["--epochs", "7", "--learning-rate", "0.5", "--min-count", "9", "--reinforce-epochs", "3"]
    given = options_of("--data", "mine", "--bundle", "one", *flags, "--keep-base", "0.1")
    assert adapt_to_size(given, 40) == given
    assert capsys.readouterr().out == ""
    some = adapt_to_size(options_of("--data", "mine", "--bundle", "one", "--epochs", "7"), 40)
    assert (some.training.epochs, some.words.min_count) == (7, 1)
    assert "--epochs" not in capsys.readouterr().out


def test_many_images_keep_the_usual_defaults(capsys):
    usual = options_of("--data", "mine", "--bundle", "one")
    assert adapt_to_size(usual, 6000) == usual
    assert capsys.readouterr().out == ""


def test_the_search_is_that_of_the_base_model_but_for_flags():
    base = DecodeOptions(num_beams=5, mirrored=True)
    chosen = adapt_to_base(options_of("--data", "mine", "--bundle", "one", "--num-beams", "2"), base).decoding
    assert (chosen.num_beams, chosen.mirrored) == (2, True)


def test_words_of_a_bundle_have_vectors():
    with pytest.raises(DataError, match=r"--glove some\.txt cannot be used with --bundle"):
        options_of("--data", "mine", "--bundle", "one", "--glove", "some.txt")


def test_the_script_and_the_command_are_the_same():
    texts = [
        subprocess.run([sys.executable, *command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
        for command in (["train.py"], ["-m", "captioning", "train"])
    ]
    assert texts[0].stdout == texts[1].stdout
