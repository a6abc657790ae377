"""Tiny models of the real architectures, untrained, made from a configuration and saved to a folder."""

from pathlib import Path

WORDS = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] a man dog red runs on the grass photo of is in two cats sleep".split()  # noqa: SIM905
)
SIDE = {"height": 32, "width": 32}
TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION = TEXT | {"image_size": 32, "patch_size": 8}
KINDS = ("blip", "git", "vit-gpt2", "blip2", "florence-2")


def wordpieces(hf):
    return hf.BertTokenizer(vocab={word: place for place, word in enumerate(WORDS)})


def bytepieces(hf, **more):
    import tokenizers

    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel()
    made.decoder = tokenizers.decoders.ByteLevel()
    end = "<|endoftext|>"
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(special_tokens=[end], initial_alphabet=alphabet)
    made.train_from_iterator([" ".join(WORDS)], trainer)
    ends = {f"{name}_token": end for name in ("bos", "eos", "unk", "pad")}
    return hf.PreTrainedTokenizerFast(tokenizer_object=made, **ends | more)


def blip(hf):
    text = TEXT | {"encoder_hidden_size": 16, "max_position_embeddings": 40}
    ends = {"bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    config = hf.BlipConfig(
        vision_config=VISION | {"projection_dim": 16},
        projection_dim=16,
        text_config=text | ends | {"vocab_size": len(WORDS)},
    )
    processor = hf.BlipProcessor(hf.BlipImageProcessor(size=SIDE), wordpieces(hf))
    return hf.BlipForConditionalGeneration(config), processor


def git(hf):
    ends = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    config = hf.GitConfig(vision_config=VISION, vocab_size=len(WORDS), max_position_embeddings=60, **ends, **TEXT)
    images = hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=SIDE)
    return hf.GitForCausalLM(config), hf.GitProcessor(images, wordpieces(hf))


def vit_gpt2(hf):
    tokenizer = bytepieces(hf)
    sizes = {"vocab_size": len(tokenizer), "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 40}
    text = hf.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0, add_cross_attention=True)
    config = hf.VisionEncoderDecoderConfig.from_encoder_decoder_configs(hf.ViTConfig(**VISION), text)
    config.decoder_start_token_id = config.pad_token_id = 0
    model = hf.VisionEncoderDecoderModel(config)
    settings = model.generation_config
    settings.decoder_start_token_id = settings.pad_token_id = settings.eos_token_id = 0
    return model, tokenizer, hf.ViTImageProcessor(size=SIDE)


def blip2(hf):
    processor = hf.Blip2Processor(hf.BlipImageProcessor(size=SIDE), bytepieces(hf), num_query_tokens=4)
    count = len(processor.tokenizer)
    text = {"model_type": "opt", "vocab_size": count, "hidden_size": 16, "ffn_dim": 32, "word_embed_proj_dim": 16}
    text |= {"num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 64}
    config = hf.Blip2Config(
        vision_config=VISION,
        qformer_config=TEXT | {"vocab_size": 30, "encoder_hidden_size": 16},
        num_query_tokens=4,
        text_config=text | {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0},
    )
    config.image_token_index = config.image_token_id = processor.tokenizer.convert_tokens_to_ids("<image>")
    return hf.Blip2ForConditionalGeneration(config), processor


def florence_2(hf):
    tokenizer = bytepieces(hf, extra_special_tokens={"image_token": "<image>"})
    vision = {"embed_dim": [8, 8, 8, 16], "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 2], "num_groups": [1, 1, 1, 2]}
    text = {"model_type": "bart", "vocab_size": len(tokenizer), "d_model": 16, "max_position_embeddings": 128}
    sizes = {"layers": 1, "ffn_dim": 32, "attention_heads": 2}
    text |= {f"{part}_{name}": size for part in ("encoder", "decoder") for name, size in sizes.items()}
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "decoder_start_token_id": 0}
    config = hf.Florence2Config(
        vision_config=vision | {"projection_dim": 16, "window_size": 2},
        text_config=text | ends | {"forced_eos_token_id": 0},
        image_token_id=tokenizer.image_token_id,
    )
    images = hf.CLIPImageProcessor(size={"height": 64, "width": 64}, do_center_crop=False)
    images.image_seq_length = 5
    return hf.Florence2ForConditionalGeneration(config), hf.Florence2Processor(images, tokenizer)


MAKERS = {"blip": blip, "git": git, "vit-gpt2": vit_gpt2, "blip2": blip2, "florence-2": florence_2}


def save(kind: str, folder: Path) -> Path:
    """The folder of a tiny model of a kind, with enlarged weights, so that captions of different pictures differ."""
    import torch
    import transformers

    torch.manual_seed(3)
    for part in MAKERS[kind](transformers):
        if isinstance(part, torch.nn.Module):
            with torch.no_grad():
                for weight in part.parameters():
                    if weight.dim() > 1:
                        weight.mul_(8)
        part.save_pretrained(folder / kind)
    return folder / kind
