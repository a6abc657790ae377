"""The page's search finds the captions of the package's search, word for word."""

import numpy as np
import pytest

from captioning.data.tokenizer import SPECIAL_WORDS, Tokenizer
from captioning.decoder.operations import on_numpy
from captioning.decoder.search import decode, search_inputs
from captioning.inference.captioner import Captioner
from captioning.inference.confidence import Calibration
from captioning.inference.familiarity import Familiarity
from captioning.options import DecodeOptions
from web.build import browser_familiarity

WORDS = (*SPECIAL_WORDS, "a", "dog", "'s", "red", "ball", "on", "grass", "runs")
SIZE, REGIONS, PICTURES = len(WORDS), 4, 10
CALIBRATION = Calibration(2.0, 1.5, 0.5)
OPTIONS = [
    {},
    {"num_beams": 1},
    {"num_beams": 5, "length_penalty": 0.0},
    {"num_beams": 7, "length_penalty": 1.5, "max_length": 4},
    {"no_repeat_ngram_size": 0},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 3, "min_length": 6},
    {"repetition_penalty": 1.4, "no_repeat_ngram_size": 0},
    {"forbid": ("dog", "the grass")},
    {"max_length": 1},
]
SCRIPT = """search, spell, confidence;
const found = [];
for (const {options, forbidden} of given.searches) {
  for (const table of given.tables) {
    const step = async (tokens, {before}) => ({
      logProbs: Float32Array.from([...tokens].flatMap((word, row) => table[before[row]][word])),
      attention: Float32Array.from([...tokens].flatMap(word => given.attention[word])),
      state: {before: Float32Array.from(tokens)},
    });
    const captions = (await search({before: new Float32Array(1)}, step, options, forbidden))
      .map(one => spell(one, given.words));
    const [best, ...others] = captions;
    found.push({...best, words: best.words.map(word => ({...word, attention: [...word.attention]})),
      others: others.map(one => one.text), confidence: confidence(best, others, given.calibration)});
  }
}
"""


class Scripted:
    """An engine whose words depend on the last two; the features of an image are the number of its table."""

    name, num_regions, has_one_size = "scripted", REGIONS, False

    def __init__(self, tables, attention):
        self.tables, self.attention = tables, attention

    def start(self, features, num_rows):
        tables = np.repeat(features[:, :1, 0].astype(int), num_rows, axis=1)
        return tables, np.zeros_like(tables)

    def step(self, tokens, state):
        tables, before = state
        return self.tables[tables, before, tokens], (tables, tokens), self.attention[tokens]

    def search(self, features, rules, *, rng, **_):
        prefix, noise = search_inputs(rules, len(features), None, rng)
        with on_numpy():
            return decode(self.start, self.step, features, rules, prefix=prefix, noise=noise, num_regions=REGIONS)


@pytest.fixture(scope="module")
def scripted():
    rng = np.random.default_rng(0)
    scores = 2.5 * rng.standard_normal((PICTURES, SIZE, SIZE, SIZE)).astype("float32")
    tables = scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    return Scripted(tables, rng.random((SIZE, REGIONS), "float32"))


def test_a_hundred_searches_agree_with_the_package(node, scripted):
    chosen = [DecodeOptions(**changes) for changes in OPTIONS]
    tokenizer, features = Tokenizer(WORDS), np.arange(PICTURES, dtype="float32").reshape(-1, 1, 1)
    captioner = Captioner(scripted, tokenizer, image_size=8, options=chosen[0], calibration=CALIBRATION)
    forbidden = [[tokenizer.id(word) for word in options.forbid if word in WORDS] for options in chosen]
    forbidden[8].append(tokenizer.id("grass"))
    wanted = [
        caption
        for options in chosen
        for caption in captioner.caption_features(
            features, DecodeOptions(**{**vars(options), "num_captions": options.num_beams})
        )
    ]
    given = {
        "searches": [{"options": vars(one), "forbidden": ids} for one, ids in zip(chosen, forbidden, strict=True)],
        "tables": scripted.tables.tolist(),
        "attention": scripted.attention.tolist(),
        "words": WORDS,
        "calibration": vars(CALIBRATION),
    }
    found = node("search.js", SCRIPT, given)
    assert len(found) == len(wanted) == 100
    assert len({caption.text for caption in wanted}) > 50
    for one, other in zip(found, wanted, strict=True):
        assert one["text"] == other.text
        assert one["others"] == [each.text for each in other.alternatives]
        assert one["score"] == pytest.approx(other.score, abs=1e-5)
        assert one["confidence"] == pytest.approx(other.confidence, abs=1e-6)
        assert [word["text"] for word in one["words"]] == [word.text for word in other.words]
        for word, same in zip(one["words"], other.words, strict=True):
            assert word["probability"] == pytest.approx(same.probability, abs=1e-6)
            assert word["attention"] == pytest.approx(same.attention.reshape(-1).tolist())


def test_a_picture_is_as_familiar_as_for_the_package(node):
    rng = np.random.default_rng(4)
    directions = rng.standard_normal((16, 32)).astype("float32")
    known = Familiarity(directions / np.linalg.norm(directions, axis=1, keepdims=True), 0.2)
    spread = rng.uniform(0, 0.4, (40, 1, 1)) * rng.standard_normal((40, 4, 32))
    grids = (known.directions[np.arange(40) % 16][:, None] + spread).astype("float32")
    wanted = known.is_familiar(grids)
    given = {"grids": grids.reshape(40, -1).tolist(), "known": browser_familiarity(known)}
    script = "isFamiliar; const found = given.grids.map(grid => isFamiliar(grid, given.known));"
    found = node("search.js", script, given)
    assert found == wanted
    assert 8 < sum(wanted) < 32
