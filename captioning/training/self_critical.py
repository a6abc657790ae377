"""Self-critical training: raises the probability of sampled captions whose reward is above their image's others.

A batch of reference captions is replaced by sampled captions. Each word is weighted by the reward of its caption minus
the mean reward of the other samples of the image.
"""

from collections.abc import Callable, Sequence

import numpy as np

from captioning.data.tokenizer import END, PAD, START
from captioning.decoder.compiled_search import CaptionSearch
from captioning.decoder.model import CaptionModel
from captioning.decoder.search import SearchRules
from captioning.evaluation.metrics import CiderD, sentence_bleu
from captioning.options import DecodeOptions, TrainOptions
from captioning.training.batches import Batch

MARK = " <end>"  # the end token is rewarded too, else the model would learn to end captions early


class SelfCritical:
    """Makes batches for one model. `spell` turns (T,) ids into a caption; `references` are the training captions.

    `encode` turns images into grids, once for all samples of an image.
    """

    def __init__(
        self,
        model: CaptionModel,
        spell: Callable[[np.ndarray], str],
        references: Sequence[Sequence[str]],
        *,
        encode: Callable[[np.ndarray], np.ndarray],
        options: TrainOptions,
        length: int,
    ) -> None:
        self.options, self.spell, self.encode = options, spell, encode
        self.references = [tuple(text + MARK for text in texts) for texts in references]
        self.cider = CiderD(self.references)
        search = DecodeOptions(
            strategy="sample",
            num_captions=options.reinforce_samples,
            temperature=options.reinforce_temperature,
            max_length=length,
            no_repeat_ngram_size=0,  # repeats must be sampled for training to make them rarer
        )
        self.decoder = CaptionSearch(model, SearchRules(search), jit=True)

    def batch(self, batch: Batch, images: np.ndarray, rng: np.random.Generator) -> tuple[Batch, float]:
        """Return the batch of samples to train on in place of `batch`, and the mean reward of its captions.

        Its loss is the self-critical loss plus `reinforce_anchor` times the cross-entropy of the reference captions.
        """
        inputs, targets, weights = batch
        features = inputs["features"]
        grids = self.encode(features) if features.ndim == 4 else features
        samples = self.decoder.search(grids, rng=rng).tokens  # (B, N, T)
        rewards = self.rewards(samples[: len(images)], images)
        gains = np.zeros(samples.shape[:2])
        gains[: len(images)] = rewards - others_mean(rewards)
        words, advantages = samples, gains
        if self.options.reinforce_anchor:
            words = np.concatenate([samples, targets], axis=1)
            advantages = np.concatenate([gains, np.full(targets.shape[:2], self.options.reinforce_anchor)], axis=1)
        weights = (
            np.concatenate([_shares(part) for part in np.split(words, [samples.shape[1]], axis=1)], axis=1)
            * advantages[..., None]
            * words.size
        )
        tokens = np.concatenate([np.full_like(words[..., :1], START), words[..., :-1]], axis=-1)
        return (inputs | {"tokens": tokens}, words, weights.astype("float32")), float(rewards.mean())

    def rewards(self, samples: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Return the rewards (B, N) of captions (B, N, T): CIDEr-D plus `reinforce_bleu` times BLEU-4."""
        texts = [self.spell(words) + (MARK if END in words else "") for group in samples for words in group]
        references = [self.references[image] for image in images for _ in range(samples.shape[1])]
        rewards = self.cider.score(texts, references)
        if self.options.reinforce_bleu:
            rewards = rewards + self.options.reinforce_bleu * sentence_bleu(texts, references)
        return rewards.reshape(samples.shape[:2])


def others_mean(rewards: np.ndarray) -> np.ndarray:
    """Return the mean reward of the image's other samples, (B, N): a baseline independent of the sample itself."""
    count = rewards.shape[1]
    return (rewards.sum(axis=1, keepdims=True) - rewards) / (count - 1)


def _shares(words: np.ndarray) -> np.ndarray:
    """Return 1 / (number of words) at every word and 0 at padding, (B, N, T)."""
    return (words != PAD) / max(1, np.count_nonzero(words != PAD))
