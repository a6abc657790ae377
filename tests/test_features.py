"""Encoders give the grids of keras.applications; the cache gives what the encoder gave, whatever happened to it."""

import errno
import hashlib
import os
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from captioning import features as room
from captioning.errors import DataError, ImageError, StorageError
from captioning.features import (
    build_encoder,
    image_size_of,
    open_last_stage,
    probe,
    read_features,
    weights_key,
)
from captioning.images import read_image

SIZE = 64
GRIDS = {"resnet50": (4, 2048), "mobilenetv2": (4, 1280), "resnet101": (4, 2048), "efficientnetv2b0": (4, 1280)}
ENCODERS = [
    name if name in ("resnet50", "mobilenetv2") else pytest.param(name, marks=pytest.mark.slow) for name in GRIDS
]
built: dict[str, keras.Model] = {}


def encoder_of(name: str) -> keras.Model:
    if name not in built:
        keras.utils.set_random_seed(0)
        built[name] = build_encoder(name, "none", SIZE)
    return built[name]


def network_of(encoder: keras.Model) -> keras.Model:
    return next(layer for layer in encoder.layers if isinstance(layer, keras.Model))


def pixels_for(count: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype="uint8")


# The encoders


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_is_the_network_behind_its_own_preprocessing(name):
    encoder, pixels = encoder_of(name), pixels_for(2)
    module = getattr(keras.applications, room.APPLICATIONS[name].module)
    wanted = np.asarray(network_of(encoder)(module.preprocess_input(pixels.astype("float32")), training=False))
    found = np.asarray(encoder(pixels.astype("float32"), training=False))
    assert encoder.output_shape == (None, *GRIDS[name])
    np.testing.assert_allclose(found, wanted.reshape(2, *GRIDS[name]), rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
    assert np.abs(wanted).max() > 0


@pytest.mark.parametrize("name", ["mobilenetv2", "tiny"])
def test_bytes_are_as_floats(name):
    encoder = encoder_of(name)
    pixels = pixels_for(2, encoder.input_shape[1])
    wanted = np.asarray(encoder(pixels.astype("float32"), training=False))
    found = encoder.predict_on_batch(pixels)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("name", "asked", "size"), [("resnet50", 0, 224), ("tiny", 0, 132), ("resnet50", 96, 96), ("tiny", 32, 32)]
)
def test_the_size_is_the_one_asked_for_or_the_usual(name, asked, size):
    assert image_size_of(name, asked) == size


def test_the_tiny_encoder_looks_at_parts_of_the_image_in_order():
    encoder = build_encoder("tiny")
    assert encoder.input_shape == (None, 132, 132, 3)
    assert encoder.output_shape == (None, 121, 128)
    picture = np.full((1, 132, 132, 3), 128, "float32")
    plain = np.asarray(encoder(picture))
    picture[0, 38:46, 98:106] = 255
    changed = np.abs(np.asarray(encoder(picture)) - plain).sum(axis=-1).reshape(11, 11)
    assert np.unravel_index(changed.argmax(), (11, 11)) == (3, 8)
    assert changed[7:].max() == 0


def test_the_tiny_encoder_trains():
    keras.utils.set_random_seed(0)
    encoder = build_encoder("tiny", image_size=32)
    before = [weight.numpy() for weight in encoder.trainable_weights]
    encoder.compile("sgd", "mse")
    pixels, grids = pixels_for(4, 32).astype("float32"), np.ones((4, 9, 128), "float32")
    losses = [encoder.train_on_batch(pixels, grids) for _ in range(3)]
    assert losses[-1] < losses[0]
    for weight, old in zip(encoder.trainable_weights, before, strict=True):
        assert (weight.numpy() != old).any(), weight.path


LAST_STAGES = {"resnet50": 2 * (3 * 3 + 1), "mobilenetv2": 3 * 3 + 1}  # weights: blocks of 3 convolutions, and one more


@pytest.mark.parametrize("name", LAST_STAGES)
def test_only_the_last_stage_is_opened_and_no_batch_norm(name):
    encoder = encoder_of(name)
    encoder.trainable = False
    assert open_last_stage(encoder) == LAST_STAGES[name]
    network = network_of(encoder)
    opened = {layer.name for layer in network.layers if layer.trainable_weights}
    norms = {layer.name for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)}
    last = network.layers.index(network.get_layer("conv4_block6_out" if name == "resnet50" else "block_13_project_BN"))
    convolutions = {layer.name for layer in network.layers[last + 1 :] if layer.weights} - norms
    assert opened == convolutions
    encoder.trainable = False
    assert not encoder.trainable_weights


# Weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "mobilenetv2.weights.h5"
    network_of(encoder_of("mobilenetv2")).save_weights(path)
    return path


def test_saved_weights_give_the_same_grids(weights):
    loaded, pixels = build_encoder("mobilenetv2", str(weights), SIZE), pixels_for(1)
    np.testing.assert_array_equal(loaded(pixels), encoder_of("mobilenetv2")(pixels))


def test_a_weights_file_that_is_not_there():
    with pytest.raises(DataError, match=r"no weights file nowhere\.weights\.h5; give imagenet, none, or .*MobileNetV2"):
        build_encoder("mobilenetv2", "nowhere.weights.h5", SIZE)


@pytest.mark.parametrize("name", ["broken.weights.h5", "broken.h5", "broken.txt"])
def test_a_weights_file_that_is_none(tmp_path, name):
    (tmp_path / name).write_text("not HDF5")
    with pytest.raises(DataError, match=rf"{name} does not hold the weights of MobileNetV2") as refused:
        build_encoder("mobilenetv2", str(tmp_path / name), SIZE)
    assert "\n" not in str(refused.value)


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_the_weights_of_another_network(tmp_path):
    build_encoder("tiny").save_weights(tmp_path / "tiny.weights.h5")
    with pytest.raises(DataError, match=r"does not hold the weights of MobileNetV2 without its top") as refused:
        build_encoder("mobilenetv2", str(tmp_path / "tiny.weights.h5"), SIZE)
    assert "\n" not in str(refused.value)


def test_imagenet_without_a_network(monkeypatch):
    asked = []

    def offline(*arguments, **others):
        asked.append(arguments)
        raise Exception("URL fetch failure: no route to host\nand more")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", offline)
    with pytest.raises(
        DataError, match=r"MobileNetV2 could not be fetched .*no route.*--encoder-weights FILE"
    ) as refused:
        build_encoder("mobilenetv2", "imagenet", 96)
    assert asked
    assert "\n" not in str(refused.value)


def test_a_weights_key_follows_the_content(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"1")
    other.write_bytes(b"1")
    assert weights_key(str(one)) == weights_key(str(other))
    other.write_bytes(b"2")
    assert len({weights_key(name) for name in (str(one), str(other), "imagenet", "none")}) == 4


def test_a_probe_tells_encoders_apart():
    one, other = (build_encoder("tiny", image_size=32) for _ in range(2))
    assert probe(one) == probe(one)
    assert np.abs(np.subtract(probe(one), probe(other))).max() > 0.02 * max(probe(one))
    assert len(probe(one)) == room.PROBES


@pytest.mark.skipif("CAPTIONING_MOBILENET_WEIGHTS" not in os.environ, reason="needs MobileNetV2's ImageNet weights")
def test_the_published_weights_give_the_published_network():
    path = os.environ["CAPTIONING_MOBILENET_WEIGHTS"]
    network = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(224, 224, 3))
    network.load_weights(path)
    pixels = pixels_for(2, 224)
    prepared = keras.applications.mobilenet_v2.preprocess_input(pixels.astype("float32"))
    found = np.asarray(build_encoder("mobilenetv2", path)(pixels.astype("float32")))
    np.testing.assert_allclose(found, np.asarray(network(prepared)).reshape(2, 49, 1280), atol=1e-4)
    assert found.std() > 0.1


# The cache


class Eye:
    """An encoder that remembers what it was shown: pictures of 8 x 8 pixels, told apart by their first one."""

    output_shape = (None, 4, 6)
    factor = 0.01

    def __init__(self) -> None:
        self.shapes: set[tuple[int, ...]] = set()
        self.seen: list[int] = []

    def predict_on_batch(self, pixels: np.ndarray) -> np.ndarray:
        self.shapes.add(pixels.shape)
        self.seen += dict.fromkeys(pixels[:, 0, 0, 0].tolist())
        return pixels.reshape(len(pixels), 4, 48)[..., :6] * np.float32(self.factor)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(room, "BATCH", 2)


@pytest.fixture
def images(tmp_path):
    """Five pictures: their files, and hashes of those."""
    rng = np.random.default_rng(0)
    return dict(draw(tmp_path / f"{number}.png", rng.integers(0, 256, (8, 8, 3))) for number in range(5))


def draw(path: Path, pixels: np.ndarray) -> tuple[Path, str]:
    Image.fromarray(pixels.astype("uint8")).save(path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def first_pixels(images: dict[Path, str]) -> list[int]:
    return [int(read_image(image)[0, 0, 0]) for image in images]


def read(images: dict[Path, str], folder: Path, eye: Eye | None) -> dict[str, np.ndarray]:
    found = read_features(images, folder, image_size=8, encoder=eye)
    return {image.name: found.array[row] for image, row in found.rows.items()}


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert found.keys() == wanted.keys()
    for name, grid in wanted.items():
        np.testing.assert_array_equal(found[name], grid)


def test_grids_are_what_the_encoder_gives(images, tmp_path):
    eye = Eye()
    found = read(images, tmp_path / "cache", eye)
    for image in images:
        wanted = Eye().predict_on_batch(read_image(image, size=8)[None])[0]
        np.testing.assert_array_equal(found[image.name], wanted.astype("float16"))
    assert eye.seen == first_pixels(images)
    assert eye.shapes == {(2, 8, 8, 3)}


def test_a_real_encoder_gives_in_batches_what_it_gives_alone(images, tmp_path):
    encoder = build_encoder("tiny", image_size=32)
    found = read_features(images, tmp_path / "cache", image_size=32, encoder=encoder)
    for image in images:
        alone = np.asarray(encoder(read_image(image, size=32)[None].astype("float32")))[0]
        np.testing.assert_allclose(found.array[found.rows[image]], alone, rtol=2e-3, atol=1e-3)


def test_without_an_encoder_there_are_pixels(images, tmp_path):
    found = read_features(images, tmp_path / "cache", image_size=16)
    assert found.array.dtype == "uint8"
    for image in images:
        np.testing.assert_array_equal(found.array[found.rows[image]], read_image(image, size=16))


def test_grids_are_small_and_stay_on_the_disk(images, tmp_path):
    array = read_features(images, tmp_path / "cache", image_size=8, encoder=Eye()).array
    assert isinstance(array, np.memmap)
    assert (array.dtype, array.shape) == ("float16", (5, 4, 6))
    assert (tmp_path / "cache" / "rows.bin").stat().st_size == 5 * 4 * 6 * 2


def test_what_was_seen_is_not_looked_at_again(images, tmp_path):
    fresh = read(images, tmp_path / "cache", Eye())
    eye = Eye()
    assert_same(read(images, tmp_path / "cache", eye), fresh)
    assert eye.seen == []


def test_only_what_is_new_is_looked_at(images, tmp_path):
    few = dict(list(images.items())[:4])
    read(few, tmp_path / "cache", Eye())
    eye = Eye()
    found = read(images, tmp_path / "cache", eye)
    assert eye.seen == first_pixels(images)[4:]
    assert_same(found, read(images, tmp_path / "another", Eye()))


def test_the_order_of_the_images_is_no_matter(images, tmp_path):
    fresh = read(images, tmp_path / "cache", Eye())
    backwards = dict(reversed(images.items()))
    eye = Eye()
    assert_same(dict(reversed(read(backwards, tmp_path / "cache", eye).items())), fresh)
    assert eye.seen == []
    assert_same(read(backwards, tmp_path / "another", eye), fresh)


def test_an_image_that_changed_is_looked_at_again(images, tmp_path):
    fresh = read(images, tmp_path / "cache", Eye())
    path, digest = draw(next(iter(images)), np.full((8, 8, 3), 77))
    eye = Eye()
    found = read(images | {path: digest}, tmp_path / "cache", eye)
    assert eye.seen == [77]
    assert (found[path.name] == np.float16(0.77)).all()
    assert_same({**found, path.name: fresh[path.name]}, fresh)


def test_copies_share_a_row(images, tmp_path):
    path, digest = next(iter(images.items()))
    copy = path.with_name("copy.png")
    copy.write_bytes(path.read_bytes())
    eye = Eye()
    found = read_features({path: digest, copy: digest}, tmp_path / "cache", image_size=8, encoder=eye)
    assert found.rows[path] == found.rows[copy] == 0
    assert len(eye.seen) == 1


def test_no_images_have_no_grids(tmp_path):
    found = read_features({}, tmp_path / "cache", image_size=8, encoder=Eye())
    assert found.array.shape == (0, 4, 6)


def cut(name: str, byte_count: int):
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size - byte_count)


def grow(name: str, data: bytes):
    def add(folder: Path) -> None:
        with open(folder / name, "ab") as file:
            file.write(data)

    return add


@pytest.mark.parametrize(
    ("damage", "lost"),
    [
        (cut("rows.bin", 3), 1),
        (cut("rows.bin", 4 * 6 * 2), 1),
        (cut("rows.bin", 4 * 6 * 2 + 1), 2),
        (cut("index.txt", 1), 1),
        (cut("index.txt", 65), 1),
        (cut("index.txt", 70), 2),
        (grow("rows.bin", b"half a row"), 0),
        (grow("rows.bin", bytes(100)), 0),
        (grow("index.txt", b"abc"), 0),
        (grow("index.txt", b"abc\n"), 0),
        (lambda folder: (folder / "rows.bin").unlink(), 5),
        (lambda folder: (folder / "index.txt").unlink(), 5),
    ],
)
def test_what_a_kill_left_half_done_is_done_again(images, tmp_path, damage, lost):
    folder = tmp_path / "cache"
    fresh = read(images, folder, Eye())
    damage(folder)
    eye = Eye()
    assert_same(read(images, folder, eye), fresh)
    assert eye.seen == first_pixels(images)[5 - lost :]
    path, digest = draw(tmp_path / "later.png", np.full((8, 8, 3), 77))
    assert_same(read(images | {path: digest}, folder, eye), fresh | {path.name: np.full((4, 6), 0.77, "float16")})


def test_a_picture_that_cannot_be_read_keeps_the_others(images, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    with pytest.raises(ImageError, match=r"broken\.png is empty"):
        read(images | {broken: "0" * 64}, tmp_path / "cache", Eye())
    eye = Eye()
    assert len(read(images, tmp_path / "cache", eye)) == 5
    assert len(eye.seen) <= 1


@pytest.mark.parametrize("name", ["rows.bin", "index.txt"])
def test_a_full_disk_is_told_and_repaired(images, tmp_path, monkeypatch, name):
    def full(path, mode):
        if Path(path).name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return open(path, mode)

    few = dict(list(images.items())[:3])
    read(few, tmp_path / "cache", Eye())
    monkeypatch.setattr(room, "open", full, raising=False)
    with pytest.raises(StorageError, match="the disk is full"):
        read(images, tmp_path / "cache", Eye())
    monkeypatch.undo()
    assert_same(read(images, tmp_path / "cache", Eye()), read(images, tmp_path / "another", Eye()))


def test_features_that_are_not_numbers_are_refused(images, tmp_path):
    eye = Eye()
    eye.factor = np.nan
    with pytest.raises(StorageError, match="not numbers; check --encoder-weights"):
        read(images, tmp_path / "cache", eye)


def test_features_too_large_for_float16_are_the_largest(images, tmp_path):
    eye = Eye()
    eye.factor = 1e9
    found = read(images, tmp_path / "cache", eye)
    assert max(grid.max() for grid in found.values()) == 65504
