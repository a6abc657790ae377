"""Tiny models of the real architectures, untrained, made from a configuration and saved to a folder."""

import json
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


def blip_vqa(hf):
    model, processor = blip(hf)
    return hf.BlipForQuestionAnswering(model.config), processor


def vilt(hf):
    names = dict(enumerate(("yes", "no", "red", "two")))
    sizes = VISION | {"vocab_size": len(WORDS), "max_position_embeddings": 20}
    config = hf.ViltConfig(**sizes, id2label=names, label2id={name: place for place, name in names.items()})
    images = hf.ViltImageProcessor(size={"shortest_edge": 32}, size_divisor=8)
    return hf.ViltForQuestionAnswering(config), hf.ViltProcessor(images, wordpieces(hf))


def clip(hf):
    tokenizer = bytepieces(hf, model_max_length=20)
    text = TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 20, "projection_dim": 8}
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    config = hf.CLIPConfig(text_config=text | ends, vision_config=VISION | {"projection_dim": 8}, projection_dim=8)
    images = hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=SIDE)
    return hf.CLIPModel(config), hf.CLIPProcessor(images, tokenizer)


MAKERS = {
    "clip": clip,
    "blip-vqa": blip_vqa,
    "vilt": vilt,
    "blip": blip,
    "git": git,
    "vit-gpt2": vit_gpt2,
    "blip2": blip2,
    "florence-2": florence_2,
}


def save_marian(folder: Path, *, codes: tuple[str, ...] = ()) -> Path:
    """The folder of a tiny Marian model; `codes` such as >>vie<< are those of the languages that it translates into."""
    import sentencepiece
    import torch
    import transformers as hf

    torch.manual_seed(3)
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["a man runs on the grass", "a red dog", "two cats sleep", "một người đàn ông chạy trên cỏ", "con chó đỏ"]
    settings = {"vocab_size": 60, "hard_vocab_limit": False, "minloglevel": 3}
    prefix = folder / "source"
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines * 20), model_prefix=str(prefix), **settings)
    (folder / "source.vocab").unlink()
    source = prefix.with_suffix(".model").rename(prefix.with_suffix(".spm"))
    (folder / "target.spm").write_bytes(source.read_bytes())
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(source))
    words = [pieces.id_to_piece(number) for number in range(3, pieces.get_piece_size())]
    vocabulary = {word: number for number, word in enumerate(["</s>", "<unk>", *codes, *words, "<pad>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    files = {name: str(folder / f"{name[:6]}.spm") for name in ("source_spm", "target_spm")}
    tokenizer = hf.MarianTokenizer(**files, vocab=str(folder / "vocab.json"))
    layer = {"layers": 1, "attention_heads": 2, "ffn_dim": 32}
    sizes = {f"{part}_{name}": size for part in ("encoder", "decoder") for name, size in layer.items()}
    pad = vocabulary["<pad>"]
    ends = {"pad_token_id": pad, "eos_token_id": 0, "decoder_start_token_id": pad, "forced_eos_token_id": 0}
    config = hf.MarianConfig(vocab_size=len(vocabulary), d_model=16, max_position_embeddings=256, **sizes, **ends)
    model = hf.MarianMTModel(config)
    enlarge(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def enlarge(model) -> None:
    """Enlarges weights, so that what is generated for different inputs differs."""
    import torch

    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(8)


def save(kind: str, folder: Path) -> Path:
    """The folder of a tiny model of a kind, with enlarged weights, so that captions of different pictures differ."""
    import torch
    import transformers

    torch.manual_seed(3)
    for part in MAKERS[kind](transformers):
        if isinstance(part, torch.nn.Module):
            enlarge(part)
        part.save_pretrained(folder / kind)
    return folder / kind
