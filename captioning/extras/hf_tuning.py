"""Fine-tunes a published captioner: AdamW and cross-entropy on captions, pictures mirrored and with colours varied.

With a LoRA rank only small matrices beside the weights are trained, by peft, and added to the weights at the end. Every
random choice follows from the seed and the number of the step, so a training that was stopped continues exactly.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

from captioning.data.images import read_image
from captioning.errors import ImageError, TrainingError
from captioning.extras.hf_captioners import LONGEST, PublishedCaptioner
from captioning.extras.hf_models import explain_memory
from captioning.options import TrainOptions
from captioning.runtime.environment import explain_missing_packages

LONGEST_CAPTION = 60  # tokens of a training caption; longer ones are cut
JITTER = 0.2  # brightness, contrast and saturation are multiplied by 0.8 to 1.2
SIDES = {"left", "right"}  # words of captions whose picture is not mirrored
BETAS = ("exp_avg", "exp_avg_sq")  # what AdamW keeps of a weight

Pair = tuple[Path, str]  # an image and one of its captions


class Tuner:
    """A published captioner in training."""

    def __init__(self, captioner: PublishedCaptioner, options: TrainOptions, *, steps: int) -> None:
        import torch

        self.captioner, self.options, self.steps = captioner, options, max(1, steps)
        captioner.model.float()
        self.model = _with_lora(captioner.model, options) if options.lora_rank else captioner.model
        self.weights = {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}
        decay = options.weight_decay
        self.optimizer = torch.optim.AdamW(self.weights.values(), lr=options.learning_rate, weight_decay=decay)

    @property
    def count(self) -> int:
        """How many weights are trained."""
        return sum(weight.numel() for weight in self.weights.values())

    def step(self, number: int, pairs: Sequence[Pair]) -> float:
        """One step on these pairs; the loss before it. Pairs whose image cannot be read are left out."""
        import torch

        options = self.options
        torch.manual_seed(1_000_003 * options.seed + number)
        for group in self.optimizer.param_groups:
            group["lr"] = options.learning_rate * self._rate(number)
        self.model.train()
        with explain_memory(self.captioner.about.name, 16 * self.count):  # weights, gradients, two means
            loss = self._loss(pairs, np.random.default_rng((options.seed, number)))
            if loss is None:
                return math.nan
            value = float(loss.detach())
            if not math.isfinite(value):
                raise TrainingError(f"The loss is {value} at step {number}; lower --learning-rate.")
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.weights.values(), options.clip_norm)
            self.optimizer.step()
        self.model.eval()
        return value

    def loss(self, pairs: Sequence[Pair]) -> float:
        """The loss on these pairs, whose images are taken as they are; NaN where none can be read."""
        import torch

        with torch.inference_mode():
            found = self._loss(pairs, None)
        return math.nan if found is None else float(found)

    def variables(self) -> list[np.ndarray]:
        """The trained weights, then for each what the optimizer keeps of it."""
        weights = [weight.detach().cpu().numpy() for weight in self.weights.values()]
        states = [self.optimizer.state[weight] for weight in self.weights.values()]
        if not all(states):  # before the first step
            return weights
        kept = [state[name].cpu().numpy() for state in states for name in BETAS]
        return [*weights, *kept, np.asarray(float(states[0]["step"]))]

    def assign(self, values: Sequence[np.ndarray]) -> None:
        """Takes over what `variables` gave."""
        import torch

        count = len(self.weights)
        with torch.no_grad():
            for weight, value in zip(self.weights.values(), values, strict=False):
                weight.copy_(torch.from_numpy(value))
        for place, weight in enumerate(self.weights.values() if len(values) > count else ()):
            first = count + len(BETAS) * place
            kept = zip(BETAS, values[first : first + len(BETAS)], strict=True)
            state = {name: torch.from_numpy(value).to(weight.device) for name, value in kept}
            self.optimizer.state[weight] = state | {"step": torch.tensor(float(values[-1]))}

    def finish(self) -> None:
        """Adds what LoRA learned to the weights."""
        if self.options.lora_rank:
            self.captioner.model = self.model.merge_and_unload().eval()

    def save(self, folder: Path) -> None:
        """Writes the model, its image processor and its tokenizer as transformers does."""
        self.captioner.model.save_pretrained(folder)
        if self.captioner.processor is not None:
            self.captioner.processor.save_pretrained(folder)
            return
        self.captioner.image_processor.save_pretrained(folder)
        self.captioner.tokenizer.save_pretrained(folder)

    def _rate(self, number: int) -> float:
        """The share of the peak learning rate at a step: warm-up, then cosine decay."""
        warm = self.options.warmup * self.steps
        if number < warm:
            return (number + 1) / (warm + 1)
        return 0.5 * (1 + math.cos(math.pi * (number - warm) / max(1.0, self.steps - warm)))

    def _loss(self, pairs: Sequence[Pair], rng: np.random.Generator | None) -> Any:
        import torch

        read = [(self._pixels(path, text, rng), text) for path, text in pairs]
        good = [(pixels, text) for pixels, text in read if pixels is not None]
        if not good:
            return None
        device, family = self.captioner.model.device, self.captioner.family
        pixels = torch.from_numpy(np.stack([each for each, _ in good])).to(device)
        ids, mask = self._tokens([text for _, text in good])
        made = family.losses(self.captioner.model, pixels, ids.to(device), mask.to(device), self.captioner.prompt)
        return self.model(**made).loss

    def _pixels(self, path: Path, text: str, rng: np.random.Generator | None) -> np.ndarray | None:
        try:
            picture = Image.fromarray(read_image(path, longest=LONGEST))
        except ImageError:
            return None
        if rng is not None:
            picture = varied(picture, rng, may_mirror=not SIDES & set(text.lower().split()))
        made = self.captioner.image_processor(images=picture, return_tensors="np")
        return np.asarray(made["pixel_values"][0], "float32")

    def _tokens(self, texts: Sequence[str]) -> tuple[Any, Any]:
        """The tokens (B, T) of captions with their end, and a mask (B, T) of them."""
        import torch

        tokenizer = self.captioner.tokenizer
        end = tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id
        rows = [tokenizer(text, truncation=True, max_length=LONGEST_CAPTION)["input_ids"] for text in texts]
        rows = [row if row and row[-1] == end else [*row, end] for row in rows]
        longest, pad = max(map(len, rows)), tokenizer.pad_token_id
        ids = torch.tensor([row + [end if pad is None else pad] * (longest - len(row)) for row in rows])
        return ids, torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])


def varied(picture: Image.Image, rng: np.random.Generator, *, may_mirror: bool) -> Image.Image:
    """The picture with other colours, and every second time mirrored, if it may be."""
    if may_mirror and rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = enhance(picture).enhance(float(rng.uniform(1 - JITTER, 1 + JITTER)))
    return picture


def _with_lora(model: Any, options: TrainOptions) -> Any:
    with explain_missing_packages():
        import peft
        import torch
    torch.manual_seed(options.seed)
    rank = options.lora_rank
    return peft.get_peft_model(model, peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=_targets(model)))


def _targets(model: Any) -> list[str]:
    """The linear layers, but for those that share their weights with an embedding, which would change with them."""
    import torch

    layers = dict(model.named_modules())
    shared = {id(layer.weight) for layer in layers.values() if isinstance(layer, torch.nn.Embedding)}
    linear = {name: layer for name, layer in layers.items() if isinstance(layer, torch.nn.Linear)}
    return [name for name, layer in linear.items() if id(layer.weight) not in shared]
