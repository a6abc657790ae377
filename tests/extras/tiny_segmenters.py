"""Tiny segmentation models of the real architectures, untrained, made from a configuration and saved to a folder."""

from pathlib import Path

NAMES = {0: "cat", 1: "dog", 2: "sky"}
LABELS = {"id2label": NAMES, "label2id": {name: number for number, name in NAMES.items()}}
STAGES = ["stage1", "stage2", "stage3", "stage4"]
SIDE = {"height": 64, "width": 64}
SMALL = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 2, "image_size": 64}


def mask2former(hf):
    sizes = {"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32}  # at least 32, for its group norm
    sizes |= {"encoder_feedforward_dim": 16, "dim_feedforward": 16, "encoder_layers": 1, "decoder_layers": 2}
    backbone = hf.SwinConfig(**SMALL, out_features=STAGES)
    config = hf.Mask2FormerConfig(backbone_config=backbone, num_attention_heads=2, num_queries=6, **sizes, **LABELS)
    return hf.Mask2FormerForUniversalSegmentation(config), hf.Mask2FormerImageProcessor(size=SIDE)


def maskformer(hf):
    decoder = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "num_queries": 6}
    decoder |= {f"{part}_ffn_dim": 16 for part in ("encoder", "decoder")}
    decoder |= {f"{part}_attention_heads": 2 for part in ("encoder", "decoder")}
    sizes = {"fpn_feature_size": 32, "mask_feature_size": 32}
    backbone, decoder = hf.SwinConfig(**SMALL, out_features=STAGES), detr_config(hf, decoder)
    config = hf.MaskFormerConfig(backbone_config=backbone, decoder_config=decoder, **sizes, **LABELS)
    return hf.MaskFormerForInstanceSegmentation(config), hf.MaskFormerImageProcessor(size=SIDE)


def resnet(hf):
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "layer_type": "basic"}
    return hf.ResNetConfig(**sizes, out_features=STAGES)


def detr_config(hf, sizes):
    return hf.DetrConfig(use_timm_backbone=False, backbone_config=resnet(hf), **sizes)


def detr(hf):
    sizes = {"d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "num_queries": 6}
    sizes |= {f"{part}_ffn_dim": 16 for part in ("encoder", "decoder")}
    sizes |= {f"{part}_attention_heads": 8 for part in ("encoder", "decoder")}
    model = hf.DetrForSegmentation(detr_config(hf, sizes | LABELS))
    return model, hf.DetrImageProcessor(format="coco_panoptic", size={"shortest_edge": 64, "longest_edge": 96})


def segformer(hf):
    sizes = {"depths": [1] * 4, "hidden_sizes": [8] * 4, "num_attention_heads": [1] * 4, "decoder_hidden_size": 8}
    model = hf.SegformerForSemanticSegmentation(hf.SegformerConfig(**sizes, **LABELS))
    return model, hf.SegformerImageProcessor(size=SIDE)


MAKERS = {"mask2former": mask2former, "maskformer": maskformer, "detr": detr, "segformer": segformer}


def save(kind: str, folder: Path) -> Path:
    """The folder of a tiny model of a kind, whose scores differ between places."""
    import torch
    import transformers

    torch.manual_seed(3)
    model, processor = MAKERS[kind](transformers)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and ("class" in name or "mask" in name):
                weight.mul_(8)
    model.save_pretrained(folder / kind)
    processor.save_pretrained(folder / kind)
    return folder / kind
