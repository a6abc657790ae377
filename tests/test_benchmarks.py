"""The references compute what ours does; every script runs; what a run writes stands where it belongs."""

import json
import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

from benchmarks import decoding, measure, steps
from benchmarks.plain_keras import PlainCaptioner, masked_loss
from benchmarks.plain_search import Compiled, search_one
from captioning.decoder.compiled_search import CaptionSearch
from captioning.decoder.config import ModelConfig
from captioning.decoder.model import CaptionModel
from captioning.decoder.search import SearchRules
from captioning.errors import CaptioningError
from captioning.options import DecodeOptions
from captioning.training.optimization import SmoothedCrossEntropy

SIZE = steps.Size(3, 5, 12, 9, 16, 50, 16, 12, 20, 8)
SCRIPTS = [path.stem for path in sorted(measure.PAGE.parent.glob("*.py")) if "run_script(__doc__" in path.read_text()]


@pytest.fixture(scope="module")
def ours():
    """Our network with weights that are nowhere zero, a batch, its logits and its loss."""
    keras.utils.set_random_seed(3)
    model = CaptionModel(steps.config_of(SIZE))
    model.build()
    rng = np.random.default_rng(4)
    model.set_weights([weight + rng.normal(scale=0.3, size=weight.shape) for weight in model.get_weights()])
    model.words_live.assign(1.0)
    inputs, targets, weights = steps.draw_batch(SIZE)
    logits = np.asarray(model(inputs))
    loss = SmoothedCrossEntropy(0.1)(targets, logits, sample_weight=weights)
    return model, inputs, targets, logits.reshape(-1, *logits.shape[2:]), float(loss)


def test_plain_keras_computes_what_ours_does_with_as_many_parameters(ours):
    model, inputs, targets, logits, loss = ours
    plain = PlainCaptioner(model.config)
    features, tokens, targets = steps.row_by_row(inputs, targets)
    plain({"features": features, "tokens": tokens})
    plain.copy_weights(steps.weights_of(model))
    found = plain({"features": features, "tokens": tokens})
    np.testing.assert_allclose(np.asarray(found), logits, atol=1e-4)
    assert float(masked_loss(targets, found)) == pytest.approx(loss, abs=1e-4)
    assert steps.num_parameters(plain) == steps.num_parameters(model)


def test_plain_torch_computes_what_ours_does_with_as_many_parameters(ours):
    torch = pytest.importorskip("torch")
    from benchmarks.plain_torch import PlainCaptioner, packed_loss

    model, inputs, targets, logits, loss = ours
    plain = PlainCaptioner(model.config).eval()
    plain.copy_weights(steps.weights_of(model))
    features, tokens, targets = map(torch.from_numpy, steps.row_by_row(inputs, targets))
    with torch.no_grad():
        found, lengths, order = plain(features, tokens.long(), (targets != 0).sum(dim=1))
        assert float(packed_loss(found, targets[order].long(), lengths)) == pytest.approx(loss, abs=1e-4)
    for row, length, number in zip(found.numpy(), lengths.tolist(), order.tolist(), strict=True):
        np.testing.assert_allclose(row[:length], logits[number, :length], atol=1e-4)
    trained = sum(weight.numel() for weight in plain.parameters() if weight.requires_grad)
    assert trained == steps.num_parameters(model)


def test_plain_torch_learns(ours):
    torch = pytest.importorskip("torch")
    from benchmarks.plain_torch import PlainCaptioner, train_step

    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for one another take minutes on a busy machine
    model, inputs, targets, *_ = ours
    step = train_step(PlainCaptioner(model.config), *steps.row_by_row(inputs, targets))
    losses = [step() for _ in range(40)]
    torch.set_num_threads(threads)
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.05


def test_captions_are_as_long_as_those_of_flickr8k():
    lengths = steps.caption_lengths(20_000, np.random.default_rng(0))
    assert lengths.mean() == pytest.approx(10.8, abs=0.1)
    assert lengths.std() == pytest.approx(3.8, abs=0.2)
    _, targets, _ = steps.draw_batch(SIZE)
    said = (targets != 0).sum(axis=-1)
    assert said.max() == SIZE.steps
    assert said.min() < SIZE.steps


def test_the_bare_products_are_those_of_the_network():
    size = steps.Size(2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
    first = 2 * (2 * 5) * 6 * 8
    recurrent = 2 * (2 * 3) * 10 * (9 + 8 + 4 * 10) * 4
    found = steps.products_of(size)
    counted = [times * 2 * np.prod(left) * right[-1] for times, left, right in found]
    assert counted[0] == counted[1] == first
    assert counted.count(recurrent) == 3
    assert sum(counted) == steps.operations_of(size)


@pytest.mark.parametrize(
    "options", [DecodeOptions(), DecodeOptions(num_beams=1, strategy="greedy")], ids=["beam", "greedy"]
)
def test_the_plain_search_finds_our_captions(options):
    model = decoding.untrained(ModelConfig(30, 9, 8, 8, 8, 8, 8))
    decoding.set_end(model, 1.0)
    grids = decoding.draw_grids(6, 9, 8)
    found = CaptionSearch(model, SearchRules(options)).search(grids).tokens[:, 0]
    compiled = Compiled(model.step)
    for step in (model.step, lambda tokens, state: compiled.predict_on_batch((tokens, state))):
        plain = [search_one(model.start, step, grid, options) for grid in grids]
        assert plain == [row[row != 0].tolist() for row in found]
    assert len({len(caption) for caption in plain}) > 1


def test_an_untrained_captioner_is_made_to_end():
    model = decoding.untrained(ModelConfig(30, 9, 8, 8, 8, 8, 8))
    grids = decoding.draw_grids(20, 9, 8)
    decoder = CaptionSearch(model, SearchRules(DecodeOptions(strategy="greedy")))
    decoding.end_usually(model, decoder, grids)
    lengths = decoding.lengths_of(decoder, grids)
    assert 8 < lengths.mean() < 14
    assert lengths.min() < lengths.max()


def test_contenders_take_turns():
    order = []
    contenders = {name: lambda name=name: order.append(name) or float(len(order)) for name in "ab"}
    assert measure.take_turns(contenders, 3) == {"a": [1, 3, 5], "b": [2, 4, 6]}
    assert order == list("ababab")


def test_ratios_are_taken_round_by_round():
    slow, fast = [2.0, 20.0, 6.0], [1.0, 10.0, 2.0]  # the machine was busy in the second round
    assert measure.ratio(slow, fast) == 2
    assert measure.span(slow, fast) == "2 to 3"


def test_a_result_stands_between_its_markers_and_can_be_written_again(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- one: begin -->\nold\n<!-- one: end -->\nafter\n")
    for text in ("first", "second"):
        measure.write_result("one", text, {"text": text}, page, tmp_path / "results")
    assert page.read_text() == "before\n<!-- one: begin -->\nsecond\n<!-- one: end -->\nafter\n"
    assert json.loads((tmp_path / "results" / "one.json").read_text()) == {"text": "second"}


@pytest.mark.parametrize("text", ["", "<!-- one: begin -->", "<!-- one: end --><!-- one: begin -->"])
def test_a_page_without_markers_is_left_as_it_is(tmp_path, text):
    page = tmp_path / "README.md"
    page.write_text(text)
    with pytest.raises(CaptioningError, match="lacks the line <!-- one: begin -->"):
        measure.write_result("one", "new", {}, page, tmp_path / "results")
    assert page.read_text() == text
    assert not (tmp_path / "results").exists()


def test_a_table_tells_the_machine_and_rounds_its_numbers():
    text = measure.markdown({"Title": [{"": "one", "a": 1234.5, "b": 0.12345, "c": 2000}]}, {"cores": "2", "gpu": ""})
    assert text == "Title\n\n|  | a | b | c |\n| --- | --- | --- | --- |\n| one | 1,234 | 0.123 | 2,000 |\n\n*cores: 2*"


def test_the_page_has_a_place_for_every_script_and_what_is_there_is_what_a_run_wrote():
    page = measure.PAGE.read_text("utf-8")
    assert len(SCRIPTS) == 10
    for name in SCRIPTS:
        _, begun, rest = page.partition(f"<!-- {name}: begin -->\n")
        block, ended, _ = rest.partition(f"\n<!-- {name}: end -->")
        assert begun, name
        assert ended, name
        record = measure.RESULTS / f"{name}.json"
        if record.exists():
            told = json.loads(record.read_text("utf-8"))
            assert block == measure.markdown(told["tables"], told["machine"], told["figure"]), name
        else:
            assert block == "*not measured yet*", name


def test_make_bench_runs_every_script():
    listed = re.search(r"for name in ([a-z_ ]+);", (measure.ROOT / "Makefile").read_text("utf-8"))
    assert sorted(listed[1].split()) == SCRIPTS


def test_a_worker_that_fails_says_why():
    with pytest.raises(CaptioningError, match="KeyError: 'size'"):
        measure.Worker("training", {"kind": "ours"})


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_runs(name, tmp_path):
    page = measure.PAGE.read_bytes()
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick"]
    done = subprocess.run(command, cwd=measure.ROOT, capture_output=True, text=True, env=os.environ | {"COLUMNS": "80"})
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("| --- |") >= 1 or "No GPU" in done.stdout
    assert "*date: " in done.stdout
    assert (", 0, 0 |" in done.stdout) == (name == "first_step")  # nothing is traced again in a later epoch
    assert measure.PAGE.read_bytes() == page
