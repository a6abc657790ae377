"""Finds segments in pictures by Mask2Former, MaskFormer, DETR or SegFormer, or by an own trained segmenter.

The models and their scores are those of transformers. A model computes on at most LONGEST pixels of a side; its masks
are enlarged to the picture.
"""

import importlib.util
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from captioning.errors import BundleError, CaptioningError, MissingExtra
from captioning.extras.hf_files import check_folder, class_of, size_text
from captioning.extras.hf_hub import Consent, named_folder
from captioning.extras.hf_models import explain_memory, load_model, load_processor
from captioning.extras.published import Published
from captioning.extras.segments import Segment, Segmenter, is_own

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import BaseImageProcessor, PreTrainedModel
    from transformers.utils import ModelOutput

LONGEST = 1024  # pixels of the longer side of the masks that a model computes
DEFAULT = "mask2former"
TASKS = ("instance", "panoptic", "semantic")
KINDS = {  # class of transformers -> what it can be asked for, the default first
    "Mask2FormerForUniversalSegmentation": ("panoptic", "instance", "semantic"),
    "MaskFormerForInstanceSegmentation": ("panoptic", "instance", "semantic"),
    "DetrForSegmentation": ("panoptic",),
    "SegformerForSemanticSegmentation": ("semantic",),
}


@dataclass(frozen=True)
class PublishedSegmenter(Published):
    """One published segmenter: what it was trained to find, and in which labels."""

    task: str = ""
    labels: str = ""


def _of(source: str, licence: str, parameters: int, task: str, labels: str) -> PublishedSegmenter:
    return PublishedSegmenter(source, "", licence, parameters, (), task, labels)


OTHER = "other, see its page"
PUBLISHED_SEGMENTERS = {
    "mask2former": _of(
        "facebook/mask2former-swin-tiny-coco-instance", OTHER, 47_423_179, "instance", "80 objects of COCO"
    ),
    "mask2former-panoptic": _of(
        "facebook/mask2former-swin-tiny-coco-panoptic", OTHER, 47_436_800, "panoptic", "133 of COCO"
    ),
    "maskformer": _of("facebook/maskformer-swin-tiny-coco", OTHER, 41_754_176, "panoptic", "133 of COCO"),
    "detr": _of("facebook/detr-resnet-50-panoptic", "Apache-2.0", 42_899_288, "panoptic", "133 of COCO"),
    "segformer": _of(
        "nvidia/segformer-b0-finetuned-ade-512-512",
        "NVIDIA Source Code License, not for commercial use",
        3_752_694,
        "semantic",
        "150 of ADE20K",
    ),
}


class PublishedModel:
    """A segmentation model of transformers."""

    def __init__(self, model: "PreTrainedModel", processor: "BaseImageProcessor", name: str, task: str) -> None:
        self.model, self.processor, self.name, self.task = model, processor, name, task
        self._lock = threading.Lock()

    def segments(self, image: np.ndarray, *, threshold: float = 0.5) -> list[Segment]:
        """The segments of an RGB picture (H, W, 3) of uint8 with at least this score, the best first."""
        import torch

        check_threshold(threshold)
        size = fitting(image.shape[:2])
        inputs = self.processor(images=image, return_tensors="pt", input_data_format="channels_last")
        inputs = inputs.to(self.model.device, self.model.dtype)
        total = sum(each.numel() * each.element_size() for each in self.model.parameters())
        with self._lock, torch.inference_mode(), explain_memory(self.name, total):
            outputs = self.model(**inputs)
            _to_float(outputs)
            if not all(bool(each.isfinite().all()) for each in _logits(outputs)):
                raise CaptioningError(
                    "The model produced NaN for this image; its weights may be corrupt, get it again."
                )
            found = getattr(self, f"_{self.task}")(outputs, size, threshold)
        made = [
            Segment(self._label(label), score, enlarged(mask, image.shape[:2]))
            for label, score, mask in found
            if score >= threshold
        ]
        return sorted((each for each in made if each.area), key=lambda each: -each.score)

    def _label(self, number: int) -> str:
        return str(self.model.config.id2label.get(number, number))

    def _instance(
        self, outputs: "ModelOutput", size: tuple[int, int], threshold: float
    ) -> list[tuple[int, float, np.ndarray]]:
        [found] = self.processor.post_process_instance_segmentation(  # type: ignore[attr-defined]
            outputs, threshold=threshold, target_sizes=[size], return_binary_maps=True
        )
        about = found["segments_info"]
        masks = found["segmentation"].cpu().numpy() > 0 if about else ()  # one for each, which may overlap
        return [(one["label_id"], one["score"], mask) for one, mask in zip(about, masks, strict=True)]

    def _panoptic(
        self, outputs: "ModelOutput", size: tuple[int, int], threshold: float
    ) -> list[tuple[int, float, np.ndarray]]:
        [found] = self.processor.post_process_panoptic_segmentation(  # type: ignore[attr-defined]
            outputs, threshold=threshold, target_sizes=[size], label_ids_to_fuse=set()
        )
        where = found["segmentation"].cpu().numpy()
        return [(one["label_id"], one["score"], where == one["id"]) for one in found["segments_info"]]

    def _semantic(
        self, outputs: "ModelOutput", size: tuple[int, int], threshold: float
    ) -> list[tuple[int, float, np.ndarray]]:
        """One segment for each class; its score is the mean probability of the class over its pixels."""
        import torch

        [where] = self.processor.post_process_semantic_segmentation(  # type: ignore[attr-defined]
            outputs, target_sizes=[size]
        )
        shares = class_shares(outputs)
        shares = torch.nn.functional.interpolate(shares[None], size=size, mode="bilinear", align_corners=False)[0]
        masks = [(int(label), where == label) for label in where.unique()]
        return [(label, float(shares[label][mask].mean()), mask.cpu().numpy()) for label, mask in masks]


def class_shares(outputs: "ModelOutput") -> "Tensor":
    """The probability of every class at every place, (classes, rows, columns); they sum to one."""
    import torch

    if "class_queries_logits" not in outputs:
        return outputs.logits[0].softmax(0)
    classes = outputs.class_queries_logits[0].softmax(-1)[:, :-1]  # without "nothing"
    shares = torch.einsum("qc,qhw->chw", classes, outputs.masks_queries_logits[0].sigmoid())
    return shares / shares.sum(0, keepdim=True).clamp_min(1e-9)


def _to_float(outputs: "ModelOutput") -> None:
    """Half precision, which the processors do not compute with on every device, becomes single precision."""
    for name, value in list(outputs.items()):
        if hasattr(value, "float"):
            outputs[name] = value.float()


def _logits(outputs: "ModelOutput") -> "list[Tensor]":
    return [value for name, value in outputs.items() if "logits" in name or name == "pred_masks"]


def fitting(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of this shape, with at most LONGEST pixels of the longer side."""
    height, width = shape
    scale = min(1.0, LONGEST / max(height, width))
    return max(1, round(scale * height)), max(1, round(scale * width))


def enlarged(mask: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """A mask at this height and width, by its nearest pixels."""
    if mask.shape == size:
        return np.asarray(mask, dtype=bool)
    height, width = size
    return np.asarray(Image.fromarray(mask.astype("uint8")).resize((width, height), Image.Resampling.NEAREST)) > 0


def check_threshold(threshold: float) -> None:
    """Refuses a least score that no score is compared with."""
    if not 0 <= threshold <= 1:
        raise CaptioningError(f"The least score is {threshold}; a number from 0 to 1 was expected.")


def make_ready(name: str, *, offline: bool, consent: Consent | None = None) -> Path:
    """The folder of a segmenter, downloaded after consent; refused where it finds no segments."""
    folder = Path(os.path.expanduser(name))
    if name not in PUBLISHED_SEGMENTERS and os.path.isdir(folder) and is_own(folder):
        return folder
    folder = named_folder(name, PUBLISHED_SEGMENTERS, "segmenter", offline=offline, consent=consent)
    if (kind := class_of(folder)) not in KINDS:
        kind = kind or check_folder(folder)["model_type"]
        raise BundleError(f"{name} is a {kind}, which finds no segments; expected one of {', '.join(KINDS)}.")
    if _needs_timm(folder) and importlib.util.find_spec("timm") is None:
        raise MissingExtra(f"{name} needs the package timm for its backbone; install it: python -m pip install timm")
    return folder


def load_segmenter(name: str = DEFAULT, *, offline: bool, consent: Consent | None = None, task: str = "") -> Segmenter:
    """The segmenter of a short name, of a name on the hub, or of a folder.

    `task` is one of TASKS; "": what the model was trained for, as far as that is known from its name.
    """
    folder = make_ready(name, offline=offline, consent=consent)
    if is_own(folder):
        if task:
            raise CaptioningError(f"{name} is a segmenter trained here, which has one task; leave out --task {task}.")
        from captioning.extras.own_segmenter import load_own_segmenter

        return load_own_segmenter(folder)
    kind = class_of(folder)
    chosen = task_of(name, kind, task)
    model = load_model(kind, str(folder), offline=True)
    processor = load_processor("AutoImageProcessor", str(folder), offline=True)
    if not hasattr(processor, f"post_process_{chosen}_segmentation"):
        raise BundleError(f"{name} has no processor for its pictures; copy or download the model again.")
    short = name if name in PUBLISHED_SEGMENTERS else Path(name).name
    return PublishedModel(model, processor, short, chosen)


def task_of(name: str, kind: str, task: str) -> str:
    """What a model of a class is asked for: the task given, else that of its name, else the first of its class."""
    if task and task not in KINDS[kind]:
        raise CaptioningError(f"{name} is a {kind}; it can be asked for {', '.join(KINDS[kind])}, not for {task}.")
    known = PUBLISHED_SEGMENTERS.get(name)
    named = [each for each in KINDS[kind] if each in Path(name).name.lower()]
    return task or (known.task if known else "") or [*named, *KINDS[kind]][0]


def _needs_timm(folder: Path) -> bool:
    """Whether a model's backbone is one of the package timm, as in the first published DETR."""
    config = check_folder(folder)
    backbone = config.get("backbone_config")
    if isinstance(backbone, dict):
        return backbone.get("model_type") == "timm_backbone"
    return config["model_type"] == "detr" and config.get("use_timm_backbone", True) is True


def table() -> str:
    """The published segmenters: name, address, size, licence, what each finds."""
    return "".join(
        f"{name:<22}{each.source:<47}{size_text(each.size):>8}  {each.task}, {each.labels}; {each.licence}\n"
        for name, each in PUBLISHED_SEGMENTERS.items()
    )
