"""What a captioner says becomes its lesson: better captions up, worse ones down, in ordinary weighted steps."""

import itertools
import os
import signal
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from captioning.data.tokenizer import END, PAD, START
from captioning.decoder.config import ModelConfig
from captioning.decoder.model import CaptionModel
from captioning.errors import Stopped
from captioning.evaluation.metrics import CiderD, sentence_bleu
from captioning.options import TrainOptions
from captioning.training.batches import Examples
from captioning.training.checkpoint import load_checkpoint
from captioning.training.optimization import SmoothedCrossEntropy
from captioning.training.self_critical import MARK, SelfCritical, others_mean
from captioning.training.trainer import SCORE, Phase, Trainer, history_csv

WORDS = ["<pad>", "<start>", "<end>", "<unk>", "dog", "cat", "runs", "sits", "red"]
REFERENCES = [["dog runs", "dog runs red"], ["cat sits", "cat sits red"], ["red dog", "dog"], ["cat", "red cat"]]
IMAGES, LENGTH, SAMPLES = len(REFERENCES), 4, 5


def spell(ids) -> str:
    ids = list(map(int, ids))
    words = ids[: ids.index(END)] if END in ids else ids
    return " ".join(WORDS[word] for word in words if word != PAD)


class PlainModel(CaptionModel):
    """Run step by step where that is cheaper than compiling a few steps."""

    run_eagerly = property(lambda self: keras.backend.backend() == "tensorflow", lambda self, value: None)


def build(dropout: float = 0.0, kind: type[CaptionModel] = CaptionModel) -> CaptionModel:
    keras.utils.set_random_seed(3)
    model = kind(ModelConfig(len(WORDS), 2, IMAGES, 16, 8, 16, 16, dropout=dropout))
    model.build()
    return model


def encode(images: np.ndarray) -> np.ndarray:
    """The grids (B, 2, 4) that images (B, 2, 4, 1) hold."""
    return images[..., 0]


def critic(model: CaptionModel, **options) -> SelfCritical:
    options = TrainOptions(**{"reinforce_samples": SAMPLES, **options})
    return SelfCritical(model, spell, REFERENCES, encode=encode, options=options, length=LENGTH)


def people(images: int = IMAGES):
    """A batch of images, each its own direction of feature space, and a caption of two words for each."""
    features = np.repeat(np.eye(IMAGES, dtype="float32")[:, None], 2, axis=1)
    targets = np.array([[[4, 6, END, PAD]], [[5, 7, END, PAD]], [[8, 4, END, PAD]], [[8, 5, END, PAD]]], "int32")
    targets[images:] = PAD
    tokens = np.concatenate([np.full_like(targets[..., :1], START), targets[..., :-1]], axis=-1)
    said = targets != PAD
    return {"features": features, "tokens": tokens}, targets, (said * said.size / said.sum()).astype("float32")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def model() -> CaptionModel:
    return build()


def test_a_reward_is_the_caption_s_cider_with_its_end_counted(model):
    said = np.array([[[4, 6, END, PAD], [4, 6, 8, 8]], [[5, END, PAD, PAD], [7, 7, 7, END]]])
    found = critic(model).rewards(said, np.array([0, 1]))
    marked = [[text + MARK for text in texts] for texts in REFERENCES]
    texts = ["dog runs" + MARK, "dog runs red red", "cat" + MARK, "sits sits sits" + MARK]
    wanted = CiderD(marked).score(texts, [marked[0], marked[0], marked[1], marked[1]])
    np.testing.assert_allclose(found.ravel(), wanted)
    with_bleu = critic(model, reinforce_bleu=0.5).rewards(said, np.array([0, 1]))
    bleu = sentence_bleu(texts, [marked[0], marked[0], marked[1], marked[1]])
    np.testing.assert_allclose(with_bleu - found, 0.5 * bleu.reshape(2, 2))


def test_a_caption_that_ends_earns_more_than_the_same_cut_off(model):
    ended, cut = critic(model).rewards(np.array([[[4, 6, END, PAD], [4, 6, PAD, PAD]]]), np.array([0]))[0]
    assert ended > cut


def test_a_baseline_is_the_mean_of_the_others():
    rewards = np.array([[1.0, 2, 6], [0, 0, 3]])
    np.testing.assert_allclose(others_mean(rewards), [[4, 3.5, 1.5], [1.5, 1.5, 0]])


def test_a_lesson_is_what_was_said_weighted_by_what_it_earned(model):
    teacher = critic(model)
    (inputs, targets, weights), reward = teacher.batch(people(), np.arange(IMAGES), rng())
    assert targets.shape == weights.shape == inputs["tokens"].shape == (IMAGES, SAMPLES, LENGTH)
    assert (inputs["tokens"][..., 0] == START).all()
    np.testing.assert_array_equal(inputs["tokens"][..., 1:], targets[..., :-1])
    rewards = teacher.rewards(targets, np.arange(IMAGES))
    assert reward == pytest.approx(rewards.mean())
    gains = rewards - others_mean(rewards)
    assert np.abs(gains).max() > 0
    said = targets != PAD
    np.testing.assert_allclose(weights, gains[..., None] * said * said.size / said.sum(), rtol=1e-5, atol=1e-7)
    assert not np.isin(targets, [START, 3]).any()


def test_lessons_follow_chance_alone(model):
    teacher = critic(model)
    first, again, other = (teacher.batch(people(), np.arange(IMAGES), rng(seed))[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[1], again[1])
    np.testing.assert_array_equal(first[2], again[2])
    assert (first[1] != other[1]).any()


def test_nothing_is_kept_from_saying_words_again(model):
    """What a search may not say would never be learnt to be bad."""
    stammers = build()
    stammers.head.bias.assign(20.0 * np.eye(len(WORDS))[4])
    (_, said, _), _ = critic(stammers).batch(people(), np.arange(IMAGES), rng())
    assert (said == 4).all()


def test_where_it_is_cold_there_is_one_caption_and_nothing_to_learn(model):
    (_, targets, weights), _ = critic(model, reinforce_temperature=1e-3).batch(people(), np.arange(IMAGES), rng())
    assert (targets == targets[:, :1]).all()
    assert not weights.any()


def test_the_images_that_fill_a_batch_teach_nothing(model):
    (_, _, weights), reward = critic(model).batch(people(2), np.arange(2), rng())
    assert np.abs(weights[:2]).max() > 0
    assert not weights[2:].any()
    assert reward > 0 or reward == 0


def test_an_anchor_adds_the_cross_entropy_of_people_s_captions(model):
    batch, loss = people(), SmoothedCrossEntropy(0.0)
    alone, _ = critic(model).batch(batch, np.arange(IMAGES), rng())
    both, _ = critic(model, reinforce_anchor=0.3).batch(batch, np.arange(IMAGES), rng())
    losses = [float(loss(targets, model(inputs), weights)) for inputs, targets, weights in (alone, both, batch)]
    assert losses[1] == pytest.approx(losses[0] + 0.3 * losses[2], rel=1e-4)


def test_captions_come_to_earn_more():
    model = build()
    model.compile(keras.optimizers.Adam(0.03), SmoothedCrossEntropy(0.0), jit_compile=keras.backend.backend() == "jax")
    teacher, earned = critic(model, reinforce_anchor=0.1, reinforce_bleu=1.0), []
    for step in range(25):
        (inputs, targets, weights), reward = teacher.batch(people(), np.arange(IMAGES), rng(step))
        model.train_on_batch(inputs, targets, sample_weight=weights)
        earned.append(reward)
    assert np.mean(earned[-5:]) > 2 * np.mean(earned[:5])


def reinforced(folder, *, stopped_after: int = 0) -> tuple[list[bytes], list[dict]]:
    """Two epochs of two steps each, stopped by a signal in one of them; the weights and the history."""
    model, steps = build(dropout=0.3, kind=PlainModel), itertools.count(1)
    teacher, (inputs, targets, _) = critic(model), people()
    teacher.decoder.run_eagerly = model.run_eagerly
    tokens = list(np.concatenate([inputs["tokens"], targets[..., -1:]], axis=-1))
    shown = Examples(inputs["features"], np.arange(IMAGES)[:, None], tokens)

    def make_batch(*batch):
        if next(steps) == stopped_after:
            os.kill(os.getpid(), signal.SIGINT)
        return teacher.batch(*batch)

    def validate():
        return SimpleNamespace(scores={SCORE: float(np.abs(model.get_weights()[0]).sum())}, samples=[])

    options = TrainOptions(batch_size=2, captions_per_image=1)
    run = Trainer(model, options, folder, {"seed": 0})
    progress = run.train([Phase("reinforce", 2, 1e-2, shown, shown, validate, int, make_batch)])
    weights = [keras.ops.convert_to_numpy(each).tobytes() for each in [*model.variables, *model.optimizer.variables]]
    return weights, [{name: row[name] for name in ("epoch", "reward", SCORE)} for row in progress.history]


def test_stopped_and_resumed_it_ends_as_if_it_had_not_been(tmp_path):
    whole = reinforced(tmp_path / "whole")
    for steps, epochs in ((1, 0), (2, 1)):  # each run starts where the one before it was stopped
        with pytest.raises(Stopped):
            reinforced(tmp_path / "parts", stopped_after=steps)
        assert load_checkpoint(tmp_path / "parts/checkpoint.npz", {"seed": 0})[0].epoch == epochs
    assert reinforced(tmp_path / "parts") == whole
    assert [row["epoch"] for row in whole[1]] == [1, 2]


def test_a_history_of_both_kinds_of_epochs_is_one_table():
    fitted = {"epoch": 1, "loss": 2.5, "dev_loss": 2.75, SCORE: 0.25}
    table = history_csv([fitted, {"epoch": 2, "reward": 0.5, SCORE: 0.5}])
    assert table == f"epoch,loss,dev_loss,{SCORE},reward\n1,2.5,2.75,0.25,\n2,,,0.5,0.5\n"


def test_images_are_encoded_once_for_their_samples():
    model, (inputs, targets, weights) = build(), people()
    numbers = np.arange(IMAGES)
    wanted, reward = critic(model).batch((inputs, targets, weights), numbers, np.random.default_rng(1))
    images = inputs | {"features": inputs["features"][..., None]}
    found, same = critic(model).batch((images, targets, weights), numbers, np.random.default_rng(1))
    assert same == reward
    np.testing.assert_array_equal(found[1], wanted[1])
    assert found[0]["features"].ndim == 4  # the network is trained on the images
