"""Answers to questions about pictures, by BLIP-VQA, BLIP-2 or ViLT.

BLIP and BLIP-2 generate an answer; its probability is the mean of its tokens'. ViLT chooses among some 3,000 answers
and gives the probability of each. Neither was compared with how often answers are right: they are not calibrated.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from captioning.data.images import read_image
from captioning.errors import BundleError, CaptioningError
from captioning.extras.hf_files import check_folder, class_of, weight_bytes
from captioning.extras.hf_generation import one_line
from captioning.extras.hf_hub import Consent, named_folder
from captioning.extras.hf_models import explain_memory, load_model, load_processor
from captioning.extras.published import Published
from captioning.inference.captioner import Image, source_of
from captioning.inference.protocol import Description

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, ProcessorMixin

LONGEST = 2048  # pixels of the longer side of a picture: more than any of these models takes
LONGEST_QUESTION = 300  # characters
LONGEST_ANSWER = 20  # tokens
NUM_BEAMS = 3
TOP = 5  # answers that are told where a model chooses among some
DEFAULT = "blip-vqa"
PUBLISHED_ANSWERERS = {
    "blip-vqa": Published("Salesforce/blip-vqa-base", "", "BSD-3-Clause", 361_230_140),
    "vilt": Published("dandelin/vilt-b32-finetuned-vqa", "", "Apache-2.0", 117_588_537),
    "blip2": Published("Salesforce/blip2-opt-2.7b", "59a1ef6c1e5117b3f65523d1c6066825bcf315e3", "MIT", 3_744_761_856),
}


@dataclass(frozen=True)
class Kind:
    """One kind of model, by the class that its config.json names."""

    prompt: str = "{}"
    chooses: bool = False  # among answers that it has, instead of generating one
    writer: str = ""  # the part of the model that generates


KINDS = {
    "BlipForQuestionAnswering": Kind(writer="text_decoder"),
    "Blip2ForConditionalGeneration": Kind("Question: {} Answer:", writer="language_model"),
    "ViltForQuestionAnswering": Kind(chooses=True),
}


@dataclass(frozen=True)
class Answer:
    """An answer with its probability, which is not calibrated; `others` are the next ones, where a model chooses."""

    question: str
    text: str
    probability: float
    model: str
    others: tuple[tuple[str, float], ...] = ()

    def record(self) -> dict[str, Any]:
        """Its values by column."""
        return {
            "question": self.question,
            "answer": self.text,
            "probability": round(self.probability, 4),
            "verdict": "not calibrated",
            "model": self.model,
        }


class Answerer:
    """A model that answers questions about pictures."""

    def __init__(self, model: "PreTrainedModel", processor: "ProcessorMixin", about: Description) -> None:
        self.model, self.processor, self.about = model, processor, about
        self.kind = KINDS[type(model).__name__]
        self._lock = threading.Lock()

    def answer(self, image: Image, questions: Sequence[str]) -> list[Answer]:
        """The answers to questions about an image, in their order; see Captioner.caption for what an image may be."""
        asked = [check_question(each) for each in questions]
        pixels = read_image(source_of(image), longest=LONGEST)
        return [self._answer(pixels, each) for each in asked]

    def _answer(self, pixels: np.ndarray, question: str) -> Answer:
        import torch

        text = self.kind.prompt.format(question)
        inputs = self.processor(images=pixels, text=text, return_tensors="pt", input_data_format="channels_last")
        self._check_length(inputs["input_ids"].shape[1])
        inputs = inputs.to(self.model.device, self.model.dtype)
        size = sum(each.numel() * each.element_size() for each in self.model.parameters())
        with self._lock, torch.inference_mode(), explain_memory(self.about.name, size):
            (best, probability), *others = self._chosen(inputs) if self.kind.chooses else self._generated(inputs)
        if not np.isfinite(probability):
            raise CaptioningError("The model produced NaN for this image; its weights may be corrupt, get it again.")
        return Answer(question, best, probability, self.about.name, tuple(others))

    def _check_length(self, tokens: int) -> None:
        config = self.model.config
        most = getattr(config, "text_config", config).max_position_embeddings
        if (self.kind.writer and tokens + LONGEST_ANSWER > most) or tokens > most:
            raise CaptioningError(
                f"The question has {tokens} tokens, and {self.about.name} takes about {most}; ask a shorter one."
            )

    def _chosen(self, inputs: Mapping[str, "Tensor"]) -> list[tuple[str, float]]:
        shares = self.model(**inputs).logits[0].float().sigmoid().cpu().numpy()
        names = self.model.config.id2label
        return [
            (one_line(str(names[int(place)])), float(shares[place]))
            for place in np.argsort(-shares, kind="stable")[:TOP]
        ]

    def _generated(self, inputs: Mapping[str, "Tensor"]) -> list[tuple[str, float]]:
        writer = getattr(self.model, self.kind.writer)
        settings = {"num_beams": NUM_BEAMS, "max_new_tokens": LONGEST_ANSWER, "do_sample": False}
        made = self.model.generate(**inputs, **settings, return_dict_in_generate=True, output_logits=True)
        logits = tuple(each.float() for each in made.logits)
        beams = getattr(made, "beam_indices", None)
        scores = writer.compute_transition_scores(made.sequences, logits, beams, normalize_logits=True)[0]
        tokens = made.sequences[0, -len(scores) :].tolist()
        tokenizer, ends = self.processor.tokenizer, writer.generation_config.eos_token_id
        known = {tokenizer.sep_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
        known |= set(ends if isinstance(ends, list) else [ends])
        length = next((place for place, token in enumerate(tokens) if token in known), len(tokens))
        shares = scores[: max(length, 1)].exp().cpu().numpy()  # of an empty answer that of its end
        return [(one_line(tokenizer.decode(tokens[:length], skip_special_tokens=True)), float(shares.mean()))]


def check_question(question: str) -> str:
    """The question on one line; refused where it is empty or too long."""
    asked = one_line(question)
    if not asked:
        raise CaptioningError('The question is empty; ask one such as "what colour is the shirt?".')
    if len(asked) > LONGEST_QUESTION:
        raise CaptioningError(
            f"The question has {len(asked):,} characters; ask one of at most {LONGEST_QUESTION} characters."
        )
    return asked


def make_ready(name: str, *, offline: bool, consent: Consent | None = None) -> Path:
    """The folder of a model that answers questions, downloaded after consent; refused where it cannot answer."""
    folder = named_folder(name, PUBLISHED_ANSWERERS, "model here", offline=offline, consent=consent)
    if class_of(folder) not in KINDS:
        kind = class_of(folder) or check_folder(folder)["model_type"]
        raise BundleError(f"{name} is a {kind}, which answers no questions; expected one of {', '.join(KINDS)}.")
    return folder


def load_answerer(name: str = DEFAULT, *, offline: bool, consent: Consent | None = None) -> Answerer:
    """The model of a short name, of a name on the hub, or of a folder."""
    folder = make_ready(name, offline=offline, consent=consent)
    known = PUBLISHED_ANSWERERS.get(name)
    model = load_model(class_of(folder), str(folder), offline=True)
    processor = load_processor("AutoProcessor", str(folder), offline=True)
    if not hasattr(processor, "tokenizer") or not hasattr(processor, "image_processor"):
        raise BundleError(f"{name} has no processor for pictures and words; copy or download the model again.")
    about = Description(name if known else Path(name).name, known.licence if known else "", weight_bytes(folder))
    return Answerer(model, processor, about)
