"""The kinds of published captioners: how each is given a picture, and where its words attend to it.

Shapes: B pictures, S sequences, T tokens, P patches of the picture. Tensors are those of torch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

CAPTION_TASK = "<CAPTION>"  # the prompt of Florence-2


@dataclass(frozen=True)
class Family:
    """One kind of model, by its model_type in config.json.

    `inputs` makes the arguments of generate from pixels (B, 3, H, W). `generator` is the part of the model whose
    generate is called, `writer` the part that computes the words. `attend` gives weights (T, P) of generated tokens
    over the patches; None: the model has none. `losses` makes the arguments of the model's forward that returns a loss,
    from pixels, the ids of captions, their mask and the prompt.
    """

    model_class: str
    inputs: Callable[[Any, Any, Any], Mapping[str, Any]]
    losses: Callable[[Any, Any, Any, Any, Any], Mapping[str, Any]]
    attend: Callable[[Any, Mapping[str, Any], int, Any], np.ndarray] | None = None
    generator: Callable[[Any], Any] = lambda model: model
    writer: Callable[[Any], Any] = lambda model: model
    has_processor: bool = True  # one object that holds the image processor and the tokenizer


def _blip_inputs(model: Any, pixels: Any, prompt: Any) -> Mapping[str, Any]:
    import torch

    encoded, text = model.vision_model(pixel_values=pixels)[0], model.config.text_config
    return {
        "input_ids": torch.full((len(pixels), 1), text.bos_token_id, dtype=torch.long, device=pixels.device),
        "encoder_hidden_states": encoded,
        "encoder_attention_mask": torch.ones(encoded.shape[:-1], dtype=torch.long, device=pixels.device),
        "eos_token_id": text.sep_token_id,
        "pad_token_id": text.pad_token_id,
    }


def _blip_losses(model: Any, pixels: Any, ids: Any, mask: Any, prompt: Any) -> Mapping[str, Any]:
    ids = ids.clone()
    ids[:, 0] = model.config.text_config.bos_token_id  # as in generation
    return {"pixel_values": pixels, "input_ids": ids, "attention_mask": mask, "labels": _labels(ids, mask)}


def _blip_attend(model: Any, inputs: Mapping[str, Any], row: int, tokens: Any) -> np.ndarray:
    encoded = inputs["encoder_hidden_states"][row : row + 1]
    ids = _begun(model.config.text_config.bos_token_id, tokens)
    found = model.text_decoder(input_ids=ids, encoder_hidden_states=encoded, output_attentions=True)
    return _mean_map(found.cross_attentions, len(tokens))[:, 1:]


def _pixel_inputs(model: Any, pixels: Any, prompt: Any) -> Mapping[str, Any]:
    return {"pixel_values": pixels}


def _git_losses(model: Any, pixels: Any, ids: Any, mask: Any, prompt: Any) -> Mapping[str, Any]:
    return {"pixel_values": pixels, "input_ids": ids, "attention_mask": mask, "labels": _labels(ids, mask)}


def _git_attend(model: Any, inputs: Mapping[str, Any], row: int, tokens: Any) -> np.ndarray:
    pixels = inputs["pixel_values"][row : row + 1]
    ids = _begun(model.config.bos_token_id, tokens)
    found = model(input_ids=ids, pixel_values=pixels, output_attentions=True)
    whole = _mean_map(found.attentions, found.attentions[-1].shape[-2])  # of picture and text over picture and text
    patches = whole.shape[-1] - ids.shape[1]
    return whole[patches : patches + len(tokens), 1:patches]


def _encoder_decoder_inputs(model: Any, pixels: Any, prompt: Any) -> Mapping[str, Any]:
    return {"encoder_outputs": model.encoder(pixel_values=pixels)}


def _encoder_decoder_losses(model: Any, pixels: Any, ids: Any, mask: Any, prompt: Any) -> Mapping[str, Any]:
    return {"pixel_values": pixels, "labels": _labels(ids, mask)}


def _encoder_decoder_attend(model: Any, inputs: Mapping[str, Any], row: int, tokens: Any) -> np.ndarray:
    encoded = (inputs["encoder_outputs"][0][row : row + 1],)
    ids = _begun(model.generation_config.decoder_start_token_id or model.config.decoder_start_token_id, tokens)
    found = model(encoder_outputs=encoded, decoder_input_ids=ids, output_attentions=True)
    return _mean_map(found.cross_attentions, len(tokens))[:, 1:]


def _blip2_losses(model: Any, pixels: Any, ids: Any, mask: Any, prompt: Any) -> Mapping[str, Any]:
    import torch

    begin = model.config.text_config.bos_token_id
    if not bool((ids[:, 0] == begin).all()):  # the words are generated after it
        ids, mask = (torch.nn.functional.pad(each, (1, 0), value=value) for each, value in ((ids, begin), (mask, 1)))
    count = model.config.num_query_tokens
    images = torch.full((len(ids), count), model.config.image_token_index, dtype=torch.long, device=ids.device)
    hidden = torch.full_like(images, -100)
    return {
        "pixel_values": pixels,
        "input_ids": torch.cat([images, ids], 1),
        "attention_mask": torch.cat([torch.ones_like(images), mask], 1),
        "labels": torch.cat([hidden, _labels(ids, mask)], 1),
    }


def _florence_inputs(model: Any, pixels: Any, prompt: Any) -> Mapping[str, Any]:
    return {"pixel_values": pixels, "input_ids": prompt.to(pixels.device).repeat(len(pixels), 1)}


def _florence_losses(model: Any, pixels: Any, ids: Any, mask: Any, prompt: Any) -> Mapping[str, Any]:
    return {**_florence_inputs(model, pixels, prompt), "labels": _labels(ids, mask)}


def _labels(ids: Any, mask: Any) -> Any:
    """The tokens to learn; -100 where a caption has ended."""
    return ids.masked_fill(mask == 0, -100)


def _begun(start: int, tokens: Any) -> Any:
    """Tokens (T,) as the input (1, T) whose outputs are those tokens: after the start, without the last."""
    import torch

    return torch.cat([tokens.new_full((1,), start), tokens[:-1]])[None]


def _mean_map(layers: Any, rows: int) -> np.ndarray:
    """The mean over the heads of the last layer: (rows, P)."""
    return layers[-1][0, :, :rows].float().mean(0).cpu().numpy()


def _text_decoder(model: Any) -> Any:
    return model.text_decoder


def _language_model(model: Any) -> Any:
    return model.language_model


FAMILIES = {
    "blip": Family(
        "BlipForConditionalGeneration", _blip_inputs, _blip_losses, _blip_attend, _text_decoder, _text_decoder
    ),
    "git": Family("GitForCausalLM", _pixel_inputs, _git_losses, _git_attend),
    "vision-encoder-decoder": Family(
        "VisionEncoderDecoderModel",
        _encoder_decoder_inputs,
        _encoder_decoder_losses,
        _encoder_decoder_attend,
        has_processor=False,
    ),
    "blip-2": Family("Blip2ForConditionalGeneration", _pixel_inputs, _blip2_losses, writer=_language_model),
    "florence2": Family("Florence2ForConditionalGeneration", _florence_inputs, _florence_losses),
}
