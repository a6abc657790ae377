"""A few drawn pictures in the archives and files that COCO, Flickr30k and Karpathy's splits are published as."""

import hashlib
import io
import json
import zipfile

import numpy as np
from PIL import Image

from captioning.data.published import PublishedSet

SPLITS = {9: "train", 25: "train", 30: "restval", 42: "restval", 61: "val", 73: "test"}  # Karpathy's, by number
IN_TRAIN = {"2014": {9, 25, 30}, "2017": {9, 25, 30, 42, 61}}  # the others are in the official val
CAPTIONS = {number: [f"Picture {number} shows a dog.", f"A dog, {number} of many ."] for number in SPLITS}


def jpeg(number, quality=90):
    """A drawn picture, as large as a photograph of few details."""
    coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype="uint8")
    file = io.BytesIO()
    Image.fromarray(np.kron(coarse, np.ones((20, 20, 1), "uint8"))).save(file, "JPEG", quality=quality)
    return file.getvalue()


def zipped(members):
    """An archive as COCO's are: with an entry for the folder, pictures stored as they are."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for folder in sorted({name.rpartition("/")[0] for name in members} - {""}):
            archive.writestr(f"{folder}/", "")
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def coco_name(year, number):
    """What COCO of this year calls a picture."""
    split = "train" if number in IN_TRAIN[year] else "val"
    return f"{f'COCO_{split}2014_' if year == '2014' else ''}{number:012}.jpg"


def coco_archives(year):
    """{path on the server: content} of COCO of this year."""
    archives, texts = {}, {}
    for split in ("val", "train"):
        own = [number for number in SPLITS if (number in IN_TRAIN[year]) == (split == "train")]
        pictures = {f"{split}{year}/{coco_name(year, number)}": jpeg(number) for number in own}
        archives[f"/zips/{split}{year}.zip"] = zipped(pictures)
        images = [{"id": number, "file_name": coco_name(year, number), "license": 1} for number in own]
        notes = [
            {"image_id": number, "id": 10 * number + place, "caption": text}
            for number in own
            for place, text in enumerate(CAPTIONS[number])
        ]
        facts = {"info": {}, "licenses": [], "images": images}
        texts[f"annotations/captions_{split}{year}.json"] = json.dumps(facts | {"annotations": notes})
        texts[f"annotations/instances_{split}{year}.json"] = json.dumps(facts | {"annotations": [{"bbox": [1]}]})
    return archives | {f"/annotations/annotations_trainval{year}.zip": zipped(texts)}


def karpathy_json(name):
    """Karpathy's file of the splits of coco or flickr30k."""
    images = []
    for number, split in SPLITS.items():
        sentences = [{"raw": text, "tokens": text.lower().split(), "imgid": number} for text in CAPTIONS[number]]
        image = {"imgid": number, "split": split, "sentences": sentences, "filename": f"{number}.jpg"}
        if name == "coco":
            image |= {"filename": coco_name("2014", number), "filepath": coco_name("2014", number)[5:].split("_")[0]}
        images.append(image)
    return json.dumps({"dataset": name, "images": images})


def karpathy_archive():
    """caption_datasets.zip."""
    return zipped({f"dataset_{name}.json": karpathy_json(name) for name in ("coco", "flickr30k", "flickr8k")})


def archive_of(base, path, content):
    """The constant that describes a served archive."""
    return base + path, f"sha256:{hashlib.sha256(content).hexdigest()}", len(content)


def published_set(base, year, contents):
    """The constant that describes COCO of this year on a server."""
    archives = {path: archive_of(base, path, content) for path, content in contents.items() if year in path}
    texts = archives.pop(f"/annotations/annotations_trainval{year}.zip")
    return PublishedSet("dataset_coco.json", len(SPLITS), texts, tuple(archives.values()))


def flickr30k_token(folder):
    """The captions as the owners of Flickr30k give them."""
    lines = [f"{number}.jpg#{place}\t{text}" for number in SPLITS for place, text in enumerate(CAPTIONS[number])]
    (folder / "results_20130124.token").write_text("\n".join(lines) + "\n")
    return "flickr30k-images"


def flickr30k_results(folder):
    """The captions as on Kaggle, with the line that lacks a delimiter there."""
    lines = [f"{number}.jpg| {place}| {text}" for number in SPLITS for place, text in enumerate(CAPTIONS[number])]
    lines = ["image_name| comment_number| comment", *lines, "9.jpg| 4   A dog runs across the grass ."]
    (folder / "results.csv").write_text("\n".join(lines) + "\n")
    return "flickr30k_images"


def flickr30k_captions(folder):
    """The captions as in another set on Kaggle: commas, also in the unquoted captions."""
    lines = [f"{number}.jpg,{place},{text}" for number in SPLITS for place, text in enumerate(CAPTIONS[number])]
    (folder / "captions.txt").write_text("\n".join(["image_name,comment_number,comment", *lines]) + "\n")
    return "Images"


def flickr30k_karpathy(folder):
    """The captions in Karpathy's file, beside the pictures."""
    (folder / "dataset_flickr30k.json").write_text(karpathy_json("flickr30k"))
    return "flickr30k-images"


def write_flickr30k(folder, layout):
    """A person's folder of Flickr30k."""
    folder.mkdir(parents=True)
    images = folder / layout(folder)
    images.mkdir()
    for number in SPLITS:
        (images / f"{number}.jpg").write_bytes(jpeg(number))
    return folder
