"""Our decode options as generation settings of transformers, and the captions that a published model generates."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from captioning.errors import CaptioningError
from captioning.options import DecodeOptions

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from captioning.extras.hf_captioners import PublishedCaptioner

LEAST = -100.0  # log-probability
UNMAPPED = {  # options that have no counterpart, by the value that leaves them off
    "force": ((), "the model cannot be made to use a word"),
    "mirrored": (False, "the model takes one picture at a time"),
}


class Found(NamedTuple):
    """One caption: its tokens (T,), their log-probabilities (T,) and the end's, its score, its attention (T, P)."""

    tokens: list[int]
    log_probs: np.ndarray
    score: float
    attention: np.ndarray | None


def printable(text: str) -> str:
    """The text with a space in place of each control character."""
    return "".join(each if each.isprintable() else " " for each in text)


def one_line(text: str) -> str:
    """The text on one line, with single spaces and without control characters."""
    return " ".join(printable(text).split())


def settings_of(options: DecodeOptions, tokenizer: "PreTrainedTokenizerBase", name: str) -> dict[str, Any]:
    """The generation settings of decode options; what has no counterpart is refused. Lengths count tokens."""
    for field, (off, reason) in UNMAPPED.items():
        if getattr(options, field) != off:
            raise CaptioningError(f"--{field} cannot be used with {name}: {reason}; leave it out.")
    settings: dict[str, Any] = {
        "max_new_tokens": options.max_length + 1,  # and the end
        "repetition_penalty": options.repetition_penalty,
        "no_repeat_ngram_size": options.no_repeat_ngram_size,
        "num_return_sequences": options.num_captions,
        "num_beams": options.num_beams if options.strategy == "beam" else 1,
        "do_sample": options.strategy == "sample",
    }
    if options.min_length:
        settings["min_new_tokens"] = options.min_length
    if options.strategy == "beam":
        settings["length_penalty"] = options.length_penalty
    if options.strategy == "sample":
        settings |= {"temperature": options.temperature, "top_k": options.top_k, "top_p": options.top_p}
    if banned := _banned(options.forbid, tokenizer):
        settings["bad_words_ids"] = banned
    return settings


def _banned(words: tuple[str, ...], tokenizer: "PreTrainedTokenizerBase") -> list[list[int]]:
    """The tokens of every way to write these words within a sentence."""
    ways = {
        tuple(tokenizer.encode(f"{before}{form}", add_special_tokens=False))
        for word in words
        for form in (word, word.lower(), word.capitalize())
        for before in ("", " ")
    }
    return [list(way) for way in sorted(ways) if way]


def generate(captioner: "PublishedCaptioner", pixels: np.ndarray, options: DecodeOptions) -> list[list[Found]]:
    """The captions of a batch of pictures (B, 3, H, W), best first."""
    import torch

    model, family = captioner.model, captioner.family
    settings = settings_of(options, captioner.tokenizer, captioner.about.name)
    with torch.inference_mode(), torch.random.fork_rng(enabled=options.strategy == "sample"):
        if options.strategy == "sample":
            torch.manual_seed(options.sampling_seed)
        tensor = torch.from_numpy(pixels).to(model.device, model.dtype)
        inputs = family.inputs(model, tensor, captioner.prompt)
        made = family.generator(model).generate(**inputs, **settings, return_dict_in_generate=True, output_logits=True)
        logits = tuple(each.float() for each in made.logits)
        scores = family.writer(model).compute_transition_scores(
            made.sequences, logits, getattr(made, "beam_indices", None), normalize_logits=True
        )
        found = [
            _found(tokens, log_probs, _ends(captioner), options)
            for tokens, log_probs in zip(made.sequences[:, -scores.shape[1] :], scores, strict=True)
        ]
        count = options.num_captions
        rows = [found[first : first + count] for first in range(0, len(found), count)]
        return [[_attending(captioner, inputs, row, best), *rest] for row, (best, *rest) in enumerate(rows)]


def _ends(captioner: "PublishedCaptioner") -> set[int]:
    """The tokens that end a caption."""
    tokenizer, writer = captioner.tokenizer, captioner.family.writer(captioner.model)
    own = writer.generation_config.eos_token_id
    known = (tokenizer.sep_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    return {each for each in (*known, *(own if isinstance(own, list) else [own])) if each is not None}


def _found(tokens: "Tensor", log_probs: "Tensor", ends: set[int], options: DecodeOptions) -> Found:
    ids = tokens.tolist()
    length = next((place for place, token in enumerate(ids) if token in ends), options.max_length)
    kept = np.maximum(log_probs[: length + 1].cpu().numpy(), LEAST)  # with that of the end, where there is one
    if not np.isfinite(kept).all():
        raise CaptioningError("The model produced NaN for this image; its weights may be corrupt, get it again.")
    penalty = options.length_penalty if options.strategy == "beam" else 1.0
    return Found(ids[:length], kept, float(kept.sum() / max(len(kept), 1) ** penalty), None)


def _attending(captioner: "PublishedCaptioner", inputs: Mapping[str, Any], row: int, found: Found) -> Found:
    """The caption with its attention over the picture in this row, where the model has one."""
    import torch

    attend, model = captioner.family.attend, captioner.model
    if attend is None or not found.tokens:
        return found
    return found._replace(attention=attend(model, inputs, row, torch.tensor(found.tokens, device=model.device)))
