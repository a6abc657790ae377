"""Each failure is found where it is shown, and nothing is found where all is well."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from captioning.errors import DataError
from captioning.evaluation import doctor
from captioning.evaluation.doctor import (
    attention_moves,
    attention_points,
    captions_differ,
    captions_end,
    captions_fit_images,
    examine,
    features_differ,
    words_are_known,
    words_have_vectors,
)
from captioning.plots import attention as overlay

SHADES = ("black", "dark", "grey", "pale", "white", "red", "blue", "green")
NAMES = ["features", "captions", "<end>", "attention points", "attention moves"]


def one_region(number: int, count: int = 16) -> np.ndarray:
    weights = np.full(count, 0.02)
    weights[number % count] += 1 - weights.sum()
    return weights.reshape(4, 4)


class Captioner:
    """Tells the shade of an image's first pixel, looks at one region a word; parts of it can be made to fail."""

    image_size = 16
    options = SimpleNamespace(max_length=20)

    def __init__(self, tokenizer, **failures):
        self.tokenizer = tokenizer
        self.text = failures.get("text", self._text)
        self.attention = failures.get("attention", one_region)
        self.grids = failures.get("grids", self._grids)

    def _text(self, pixels):
        return f"a {SHADES[int(pixels[0, 0, 0]) // 32]} picture number {int(pixels.sum()) % 97}"

    def _grids(self, pixels):
        return np.maximum(np.random.default_rng(int(pixels.sum())).normal(size=(16, 8)), 0)

    def features(self, images):
        return np.stack([self.grids(pixels) for pixels in images])

    def caption(self, images):
        return [self._caption(self.text(pixels)) for pixels in images]

    def _caption(self, text):
        words = [
            SimpleNamespace(text=word, attention=self.attention(number)) for number, word in enumerate(text.split())
        ]
        return type("Said", (), {"__str__": lambda said: text, "words": words})()


@pytest.fixture(autouse=True)
def _few_drawings(monkeypatch):
    monkeypatch.setattr(doctor, "DRAWN", 10)


def found(captioner, **others) -> list[str]:
    return [finding.name for finding in examine(captioner, {}, **others) if not finding.healthy]


def test_a_healthy_captioner_is_found_to_be_one(tokenizer):
    findings = examine(Captioner(tokenizer), {})
    assert [finding.name for finding in findings] == NAMES
    assert all(finding.healthy for finding in findings)
    assert all(finding.text().startswith("healthy  ") and "\n" not in finding.text() for finding in findings)


@pytest.mark.parametrize(
    ("failure", "names"),
    [
        ({"text": lambda pixels: "a man in a red shirt"}, ["captions"]),
        ({"text": lambda pixels: "so " * 19 + f"{pixels.sum()}"}, ["<end>"]),
        ({"text": lambda pixels: ""}, ["captions", "<end>", "attention points"]),
        ({"attention": lambda number: np.full((4, 4), 1 / 16)}, ["attention points", "attention moves"]),
        ({"attention": lambda number: np.full((4, 4), np.nan)}, ["attention points", "attention moves"]),
        ({"attention": lambda number: one_region(3)}, ["attention moves"]),
        ({"grids": lambda pixels: np.zeros((16, 8))}, ["features"]),
        ({"grids": lambda pixels: np.full((16, 8), 6.0)}, ["features"]),
        (
            {"grids": lambda pixels: np.where(np.arange(8) == 0, np.nan, pixels[0, 0, 0] * np.ones((16, 8)))},
            ["features"],
        ),
        ({"grids": lambda pixels: np.arange(128.0).reshape(16, 8) + pixels[0, 0, 0] / 255}, ["features"]),
    ],
    ids=["same", "endless", "empty", "flat", "nan map", "still", "zero", "saturated", "nan", "pixels from 0 to 1"],
)
def test_each_failure_is_found(tokenizer, failure, names):
    assert found(Captioner(tokenizer, **failure)) == names


def test_a_finding_tells_its_cause_and_its_remedy():
    told = captions_differ(["a dog"] * 9 + ["a cat"]).text().splitlines()
    assert told[0] == (
        "FOUND    captions: 2 different ones for 10 images, “a dog” for 9: the captions do not depend on the images"
    )
    assert told[1].startswith("         remedy: ")


def test_nearly_the_same_counts_as_the_same():
    assert captions_differ(["a dog"] * 7 + ["a cat"] * 3).healthy
    assert not captions_differ(["a dog"] * 8 + ["a cat"] * 2).healthy


def test_captions_may_now_and_then_be_as_long_as_allowed():
    assert captions_end([20, 20, 9, 10], 20).healthy
    assert "run to 20 words without <end>" in captions_end([20, 20, 20, 10], 20).what
    assert "before the first word" in captions_end([0, 0, 0, 10], 20).what


def test_features_that_are_healthy_and_that_are_not():
    rng = np.random.default_rng(0)
    sparse = np.maximum(rng.normal(size=(9, 49, 32)) - 1.5, 0)
    assert features_differ(sparse).healthy
    assert features_differ(np.minimum(3 * rng.random((9, 49, 32)), 2)).healthy  # a third at the largest number
    assert "saturated at 2" in features_differ(np.minimum(30 * rng.random((9, 49, 32)), 2)).what
    assert "not finite" in features_differ(np.where(sparse > 2, np.inf, sparse)).what
    assert "are 0" in features_differ(0 * sparse).what


def test_attention_is_measured_between_flat_and_one_region():
    assert "0.00," in attention_points([[np.full((2, 2), 0.25)]]).what
    assert "1.00," in attention_points([[np.eye(4)[0].reshape(2, 2)]]).what
    assert not attention_points([]).healthy
    there, elsewhere = np.eye(4)[:2].reshape(2, 2, 2)
    assert attention_moves([[there, elsewhere], [there]]).what.startswith("50%")
    assert not attention_moves([[there, there, there]]).healthy
    assert attention_moves([[there]]).healthy  # one word has nothing to move to


def test_the_doctor_and_the_strip_agree_on_what_moves():
    rng, found = np.random.default_rng(0), set()
    for spread in (0.1, 0.3, 0.5, 1, 3):
        maps = rng.dirichlet(np.full(16, 1 / spread**2), 6).reshape(6, 4, 4)
        moves = attention_moves([maps]).healthy
        assert moves is not overlay.is_attention_static([SimpleNamespace(attention=weights) for weights in maps])
        found.add(moves)
    assert found == {True, False}


def test_words_that_are_not_known_are_counted_and_named(tokenizer):
    assert words_are_known([["a dog runs", "The CAT sits!"]], tokenizer).what.startswith(
        "0.0% of the references' words"
    )
    finding = words_are_known([["a zebra runs", "a zebra and a unicorn"]], tokenizer)
    assert not finding.healthy
    assert finding.what.startswith("37.5% of the references' words are <unk>, 60% of their different words are in it")
    assert "not zebra, unicorn:" in finding.what


@pytest.mark.parametrize(("coverage", "healthy"), [(1.0, True), (0.7, True), (0.69, False), (0.0, False)])
def test_word_vectors_are_looked_at_where_the_bundle_tells_of_them(tokenizer, coverage, healthy):
    assert words_have_vectors(coverage).healthy is healthy
    *_, last = examine(Captioner(tokenizer), {"glove_coverage": coverage})
    assert (last.name, last.healthy) == ("word vectors", healthy)


@pytest.mark.parametrize("coverage", ["0.9", [0.9], {}, None])
def test_word_vectors_are_left_out_where_the_bundle_gives_no_number(tokenizer, coverage):
    assert [finding.name for finding in examine(Captioner(tokenizer), {"glove_coverage": coverage})] == NAMES


def test_captions_that_would_suit_any_image_are_found():
    references = [[f"a {shade} picture", f"something {shade} here"] for shade in SHADES]
    right = [f"a {shade} picture" for shade in SHADES]
    assert captions_fit_images(right, references).healthy
    assert not captions_fit_images(["a picture"] * 8, references).healthy
    assert not captions_fit_images(right[1:] + right[:1], references).healthy
    assert not captions_fit_images(["zebra"] * 8, references).healthy


@pytest.fixture
def split(tmp_path):
    """Eight pictures of another shade each with their references, and one that cannot be read."""
    pairs = {}
    for number, shade in enumerate(SHADES):
        image = tmp_path / f"{number}.png"
        Image.new("RGB", (16, 16), (32 * number, 0, 0)).save(image)
        pairs[image] = [f"a {shade} picture number {(32 * number * 256) % 97}", f"a {shade} one"]
    (tmp_path / "bad.png").write_bytes(b"")
    return pairs | {tmp_path / "bad.png": ["a black picture"]}


def test_captioned_images_show_more(tokenizer, split, monkeypatch):
    findings = examine(Captioner(tokenizer), {}, split)
    assert [finding.name for finding in findings] == [*NAMES, "vocabulary", "captions and images"]
    assert [finding.name for finding in findings if not finding.healthy] == ["vocabulary"]
    monkeypatch.setattr(doctor, "MOST", 7)
    with pytest.raises(DataError, match="7 images of this split can be read; give at least 8"):
        examine(Captioner(tokenizer), {}, split)


def test_captions_said_without_looking_are_found(tokenizer, split):
    blind = Captioner(tokenizer, text=lambda pixels: f"a {SHADES[-1 - int(pixels[0, 0, 0]) // 32]} picture")
    assert found(blind, split=split) == ["vocabulary", "captions and images"]
