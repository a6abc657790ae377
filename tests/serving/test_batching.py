"""Pictures share batches and answers without changing one caption; a full queue refuses at once."""

import io
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from PIL import Image

from captioning.errors import CaptioningError, ImageError
from captioning.options import DecodeOptions, ServeOptions
from captioning.serving.batching import Batcher, Busy
from tests.serving.service import asked, jpeg, many, sent

BEAM = DecodeOptions(num_captions=3)


@pytest.fixture
def sizes():
    return []


@pytest.fixture
def batcher(box, sizes):
    """A batcher that waits long enough for a batch to gather, and its batches' sizes."""

    def seen(event, value):
        if event == "batch":
            sizes.append(value)

    batcher = Batcher(box, ServeOptions(window=400.0, batch_size=6), seen=seen)
    yield batcher
    batcher.close()


def test_batched_captions_equal_single_ones(batcher, sizes, direct):
    batcher.facts("flickr8k")
    found = many(6, lambda seed: batcher.caption(jpeg(seed), "flickr8k", BEAM).result())
    assert sizes == [6]
    for seed, caption in enumerate(found):
        alone = direct.caption(jpeg(seed), BEAM)
        assert caption.text == alone.text
        assert [each.text for each in caption.alternatives] == [each.text for each in alone.alternatives]
        assert caption.confidence == pytest.approx(alone.confidence, abs=1e-4)


def test_only_those_of_one_search_share_a_batch_and_samples_share_none(batcher, sizes):
    sample = DecodeOptions(strategy="sample", sampling_seed=1)
    kinds = [BEAM, BEAM, DecodeOptions(num_beams=2), sample, sample, BEAM]
    batcher.facts("flickr8k")
    found = many(6, lambda number: batcher.caption(jpeg(50 + number), "flickr8k", kinds[number]).result())
    assert sorted(sizes) == [1, 1, 1, 3]
    assert all(found)
    again = Batcher(batcher.pool)
    assert again.caption(jpeg(53), "flickr8k", sample).result().text == found[3].text
    again.close()


def test_identical_pictures_are_captioned_once(batcher, sizes):
    first = batcher.caption(jpeg(7), "flickr8k", BEAM).result()
    assert batcher.caption(jpeg(7), "flickr8k", BEAM).result() is first
    assert batcher.caption(jpeg(7), "flickr8k", DecodeOptions(num_beams=1)).result() is not first
    assert sizes == [1, 1]


def test_a_kept_answer_goes_when_there_is_no_room(box):
    batcher = Batcher(box, ServeOptions(answers=1, window=0.0))
    first = batcher.caption(jpeg(1), "flickr8k", BEAM).result()
    batcher.caption(jpeg(2), "flickr8k", BEAM).result()
    assert batcher.caption(jpeg(1), "flickr8k", BEAM).result() is not first
    batcher.close()


class Broken:
    """A pool whose captioner fails for batches, and for one kind of picture."""

    at_once = 1

    def __init__(self):
        self.calls = []

    @contextmanager
    def captioner(self, name):
        yield SimpleNamespace(image_size=8, options=BEAM)

    def caption(self, name, pixels, options):
        self.calls.append(len(pixels))
        if len(pixels) > 1 or pixels[0].mean() < 50:
            raise CaptioningError("NaN")
        return ["a caption"]


def test_one_failure_spoils_no_other_and_is_not_kept():
    pool = Broken()
    batcher = Batcher(pool, ServeOptions(window=300.0, batch_size=2))
    dark = _plain(0)
    bright, failed = many(2, lambda number: batcher.caption([_plain(200), dark][number], "x", BEAM))
    assert bright.result() == "a caption"
    with pytest.raises(CaptioningError):
        failed.result()
    with pytest.raises(CaptioningError):
        batcher.caption(dark, "x", BEAM).result()
    assert sorted(pool.calls) == [1, 1, 1, 2]
    with pytest.raises(ImageError):
        batcher.caption(b"nothing", "x", BEAM)
    batcher.close()


def _plain(value):
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (value,) * 3).save(file, "PNG")
    return file.getvalue()


def test_a_full_queue_refuses(box):
    batcher = Batcher(box, ServeOptions(queue=16))
    batcher.reserve(10)
    with pytest.raises(Busy):
        batcher.reserve(7)
    batcher.reserve(6)
    batcher.release(16)
    assert batcher.held == 0
    batcher.close()


def test_who_finds_the_queue_full_is_told_at_once_and_others_are_answered(box, tmp_path):
    with asked(box, tmp_path, options=ServeOptions(queue=16)) as client:
        client.service.batcher.facts("flickr8k")
        with box.captioner("flickr8k"):  # nothing can be captioned for now
            waiting = [threading.Thread(target=lambda n=n: found.append(ask(client, n))) for n in range(16)]
            found = []
            for thread in waiting:
                thread.start()
            while client.service.batcher.held < 16:
                time.sleep(0.01)
            refused = ask(client, 99)
            assert (refused.status_code, refused.json()["code"]) == (503, "busy")
            assert refused.headers["retry-after"] == "1"
            assert client.get("/readyz").status_code == 503
            assert client.get("/healthz").status_code == 200
        for thread in waiting:
            thread.join()
        assert [each.status_code for each in found] == [200] * 16
        assert client.service.batcher.held == 0


def ask(client, seed):
    return client.post("/v1/captions", files=sent(100 + seed), data={"num_beams": "1", "max_length": "3"})
