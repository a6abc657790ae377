"""Self-critical training: what the captioner says of an image is its next lesson, better captions up, worse ones down.

Knows nothing of optimizers or epochs: it turns a batch of people's captions into one of the captioner's own, each word
weighted by how much more its caption earned than the other captions of that image.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from captioning.data.tokenizer import END, PAD, START
from captioning.decoder.search import CaptionSearch, SearchRules
from captioning.evaluation.metrics import CiderD, sentence_bleu
from captioning.options import DecodeOptions, TrainOptions

Batch = tuple[dict[str, Any], np.ndarray, np.ndarray]
MARK = " <end>"  # a caption that ends earns for that too, else it would learn to stop in the middle


class SelfCritical:
    """Lessons for one model; `spell` turns (T,) ids into a caption, `references` are the training images' captions."""

    def __init__(
        self,
        model: Any,
        spell: Callable[[np.ndarray], str],
        references: Sequence[Sequence[str]],
        *,
        options: TrainOptions,
        length: int,
    ) -> None:
        self.options, self.spell = options, spell
        self.references = [tuple(text + MARK for text in texts) for texts in references]
        self.cider = CiderD(self.references)
        search = DecodeOptions(
            strategy="sample",
            num_captions=options.reinforce_samples,
            temperature=options.reinforce_temperature,
            max_length=length,
            no_repeat_ngram_size=0,  # nothing is learnt of what cannot be said
        )
        self.decoder = CaptionSearch(model, SearchRules(search), jit=True)

    def lesson(self, batch: Batch, images: np.ndarray, rng: np.random.Generator) -> tuple[Batch, float]:
        """What to learn from in place of this batch, which shows these images; and the mean reward of its captions.

        Its loss is self-critical training's, plus `reinforce_anchor` times the cross-entropy of people's captions.
        """
        inputs, targets, weights = batch
        said = self.decoder.search(inputs["features"], rng=rng).tokens  # (B, N, T)
        rewards = self.rewards(said[: len(images)], images)
        gains = np.zeros(said.shape[:2])
        gains[: len(images)] = rewards - others_mean(rewards)
        words, worth = said, gains
        if self.options.reinforce_anchor:
            words = np.concatenate([said, targets], axis=1)
            worth = np.concatenate([gains, np.full(targets.shape[:2], self.options.reinforce_anchor)], axis=1)
        weights = (
            np.concatenate([_shares(part) for part in np.split(words, [said.shape[1]], axis=1)], axis=1)
            * worth[..., None]
            * words.size
        )
        tokens = np.concatenate([np.full_like(words[..., :1], START), words[..., :-1]], axis=-1)
        return (inputs | {"tokens": tokens}, words, weights.astype("float32")), float(rewards.mean())

    def rewards(self, said: np.ndarray, images: np.ndarray) -> np.ndarray:
        """What every caption (B, N, T) of these images earns, (B, N): its CIDEr-D, and its BLEU-4 where asked for."""
        texts = [self.spell(words) + (MARK if END in words else "") for own in said for words in own]
        references = [self.references[image] for image in images for _ in range(said.shape[1])]
        earned = self.cider.score(texts, references)
        if self.options.reinforce_bleu:
            earned = earned + self.options.reinforce_bleu * sentence_bleu(texts, references)
        return earned.reshape(said.shape[:2])


def others_mean(rewards: np.ndarray) -> np.ndarray:
    """The mean of an image's other rewards, (B, N): a baseline that owes nothing to the caption it judges."""
    count = rewards.shape[1]
    return (rewards.sum(axis=1, keepdims=True) - rewards) / (count - 1)


def _shares(words: np.ndarray) -> np.ndarray:
    """What share of all words each is, (B, N, T)."""
    return (words != PAD) / max(1, np.count_nonzero(words != PAD))
