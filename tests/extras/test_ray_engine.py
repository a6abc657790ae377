"""Workers of a Ray cluster say and see what this process does; one that is killed costs nothing and doubles nothing.

Those marked slow start Ray (the extra `ray`) as a cluster of two machines, which both are this one: make test-ray.
"""

import functools
import importlib
import json
import os
import pickle
import random
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import captioning
from captioning import cli
from captioning.encoders import features
from captioning.encoders.registry import build_encoder
from captioning.errors import BundleError, CaptioningError, ImageError, MissingExtra
from captioning.extras import ray_engine
from captioning.inference import folder as album
from captioning.inference.writers import OutputOptions, open_writer
from captioning.options import DecodeOptions, EngineOptions, RecipeOptions
from captioning.training.inputs import remote_compute

ROOT = Path(__file__).parents[2]
SEARCH = DecodeOptions(max_length=6)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*")  # its own settings, read by itself


@pytest.fixture
def images(tmp_path, pictures):
    """Fourteen pictures in a folder, the fourth of which cannot be read."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(14):
        turned = np.rot90(pictures[number % 7], number // 7)
        Image.fromarray(np.ascontiguousarray(turned)).save(folder / f"{number:02}.png")
    (folder / "03.png").write_bytes(b"")
    return sorted(folder.iterdir())


@pytest.fixture
def _small_batches(monkeypatch):
    monkeypatch.setattr(album, "BATCH", 3)
    monkeypatch.setattr(features, "BATCH", 4)


@pytest.fixture
def here(monkeypatch):
    """A cluster that is this process, and works backwards."""

    def spread(begin, tasks, workers):
        work = begin()
        random.random(), np.random.random()
        yield from ((task, work(task)) for task in reversed(tasks))

    monkeypatch.setattr(ray_engine, "spread", spread)


@pytest.fixture(scope="module")
def ray():
    """Ray, connected to a cluster of two machines of one core, which both are this one."""
    ray = required()
    from ray.cluster_utils import Cluster

    machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    machines.add_node(num_cpus=1)
    ray.init(machines.address, log_to_driver=False)
    yield ray
    ray.shutdown()
    machines.shutdown()


def required():
    try:
        return ray_engine.require_ray()
    except MissingExtra as missing:
        pytest.skip(str(missing))


def texts(batches):
    return {image: str(seen) for batch in batches for image, seen in batch.items()}


@pytest.mark.parametrize(
    ("workers", "machines", "cores"),
    [
        (1, [2], 2),
        (2, [2], 1),
        (5, [2], 1),
        (2, [8, 8], 8),
        (3, [8, 8], 4),
        (2, [0, 4], 2),
        (9, [2, 32], 3),
        (1, [], 1),
    ],
)
def test_workers_share_the_cores_so_that_all_find_room(workers, machines, cores):
    assert ray_engine.cores_each(workers, machines) == cores


def test_without_ray_one_line_says_what_to_install(images, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra):
        ray_engine.require_ray()
    assert cli.main(["caption", str(images[0]), "--engine", "ray", "--bundle", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err == "captioning: --engine ray needs Ray: pip install '.[ray]'.\n"


def test_where_nothing_is_left_to_do_no_cluster_is_started(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert list(ray_engine.caption_images(lambda: None, [], SEARCH)) == []
    assert list(ray_engine.compute_features({}, size=32)) == []


@pytest.mark.usefixtures("here", "_small_batches")
def test_captions_and_refusals_are_those_of_this_process(images, captioner):
    local = texts(album.caption_images(captioner, images, SEARCH))
    batches = list(ray_engine.caption_images(lambda: captioner, images, SEARCH))
    assert texts(batches) == local
    assert [len(batch) for batch in batches] == [2, 3, 3, 3, 3]


@pytest.mark.usefixtures("here")
def test_an_image_that_only_this_machine_has_is_told_so(images, captioner, monkeypatch):
    monkeypatch.setattr(
        album, "read_image", lambda image, size: (_ for _ in ()).throw(ImageError("missing", f"{image} does not exist"))
    )
    [batch] = ray_engine.caption_images(lambda: captioner, [images[0], images[0].with_name("none.png")], SEARCH)
    told = [album.problem_text(image, error) for image, error in batch.items()]
    assert told[0].startswith(f"{images[0]} does not exist on every machine; put")
    assert told[1] == f"{images[0].with_name('none.png')} does not exist"


@pytest.mark.usefixtures("here", "_small_batches")
@pytest.mark.parametrize("encoder", [None, pytest.param("mobilenetv2", marks=pytest.mark.slow)])
def test_what_workers_see_fills_the_cache_as_this_process_would(images, tmp_path, encoder):
    assert_seen_alike(images, tmp_path, encoder, EngineOptions("ray"))


def assert_seen_alike(images, tmp_path, encoder, engine):
    """Every image, the first one twice more, seen by this process and elsewhere; then nothing is left to be seen."""
    known = {image: f"{number:064x}" for number, image in enumerate(images) if number != 3}
    weights, network = str(tmp_path / "eye.weights.h5"), None
    if encoder:
        network = build_encoder(encoder, "none", 32)
        next(layer for layer in network.layers if isinstance(layer, keras.Model)).save_weights(weights)
    compute = remote_compute(RecipeOptions(engine=engine), 32, (encoder, weights) if encoder else None)
    read = functools.partial(features.read_features, known, image_size=32, encoder=network, views={images[0]: (1, 2)})
    local = read(tmp_path / "local")
    dice = random.getstate(), np.random.get_state()[2]
    far = read(tmp_path / "far", compute=compute)
    assert (random.getstate(), np.random.get_state()[2]) == dice, "a training would take other seeds"
    assert len(far.array) == 15
    rows = [[seen.rows[image] for image in known] + seen.views[images[0]] for seen in (local, far)]
    assert sorted(rows[1]) == list(range(15))
    np.testing.assert_allclose(far.array[rows[1]], local.array[rows[0]], rtol=1e-2, atol=1e-3)
    monkey = lambda missing: pytest.fail(f"{missing} are looked at again") if missing else iter(())  # noqa: E731
    assert read(tmp_path / "far", compute=monkey).rows == far.rows


def test_this_process_looks_itself_unless_told():
    assert remote_compute(RecipeOptions(), 32) is None


def test_a_worker_begins_once_and_answers_with_what_went_wrong(tmp_path, monkeypatch):
    begun = []

    def begin():
        begun.append(Path.cwd())
        return len

    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", ""))
    monkeypatch.chdir(ROOT)
    worker = ray_engine.Worker(begin, str(tmp_path), {"KERAS_BACKEND": "torch"})
    answers = [worker(batch(number, "x" * number)) for number in range(3)]
    assert [(list(answer["number"]), list(answer["answer"])) for answer in answers] == [([n], [n]) for n in range(3)]
    assert begun == [tmp_path]
    assert os.environ["KERAS_BACKEND"] == "torch"

    def fail():
        raise BundleError("no bundle here")

    worker = ray_engine.Worker(fail, str(tmp_path / "elsewhere"), {})
    assert str(worker(batch(0, ""))["answer"][0]) == "no bundle here"
    assert Path.cwd() == tmp_path


def batch(number, task):
    return {"number": np.array([number]), "task": np.array([task], object)}


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_address_where_nobody_listens_is_refused_at_once(address):
    with pytest.raises(
        CaptioningError, match=f"^No Ray cluster answers at RAY_ADDRESS {address} \\(Conn.*RAY_ADDRESS.$"
    ):
        ray_engine._require_answer(address)


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "auto", "local", ""])
def test_an_address_that_answers_or_is_a_word_is_left_to_ray(form):
    with socket.create_server(("127.0.0.1", 0)) as server:
        ray_engine._require_answer(form.format(server.getsockname()[1]))


def test_why_an_image_cannot_be_read_arrives_whole():
    error = pickle.loads(pickle.dumps(ImageError("empty", "a.png is empty.")))
    assert (type(error), error.reason, str(error)) == (ImageError, "empty", "a.png is empty.")


@pytest.mark.slow
@pytest.mark.usefixtures("ray", "_small_batches")
def test_a_folder_captioned_by_two_workers_is_as_if_by_this_process(images, saved, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = "caption", "pictures", "none.png", "--bundle", str(saved), "--num-captions", "2"
    told = []
    for name, engine in (("local.jsonl", ()), ("ray.jsonl", ("--engine", "ray", "--workers", "2"))):
        assert cli.main([*flags, "--output", name, *engine]) == 1
        told.append(capsys.readouterr())
    assert told[0].err.replace("local.jsonl", "ray.jsonl") == told[1].err
    assert told[0].out == told[1].out
    assert "  pictures/03.png is empty; copy or download it again.\n  none.png does not exist; check" in told[1].err
    local, far = ({line["image"]: line for line in lines(tmp_path / name)} for name in ("local.jsonl", "ray.jsonl"))
    assert len(lines(tmp_path / "ray.jsonl")) == 13
    assert far.keys() == local.keys()
    for image, line in local.items():
        assert far[image] | {"score": None} == line | {"score": None}
        assert far[image]["score"] == pytest.approx(line["score"], abs=2e-4)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.usefixtures("ray", "_small_batches")
def test_a_worker_that_is_killed_costs_nothing_and_doubles_nothing(images, saved, tmp_path, capsys):
    victim, marker = images[7], tmp_path / "killed"
    killed = signal.SIGKILL

    def begin():
        caption = ray_engine._captions(functools.partial(captioning.load, saved), SEARCH)

        def deadly(task):
            if victim in task and not marker.exists():
                marker.write_text(str(os.getpid()))
                os.kill(os.getpid(), killed)
            return caption(task)

        return deadly

    tasks = [images[first : first + 3] for first in range(0, 14, 3)]
    with open_writer(OutputOptions(output=tmp_path / "captions.jsonl"), several=False) as book:
        summary = album.caption_folder(lambda _: (said for _, said in ray_engine.spread(begin, tasks, 2)), images, book)
    assert marker.exists()
    assert [line["image"] for line in sorted(lines(tmp_path / "captions.jsonl"), key=lambda line: line["image"])] == [
        str(image) for image in images if image != images[3]
    ]
    assert summary.problems == [f"{images[3]} is empty; copy or download it again."]
    assert capsys.readouterr().out == ""


@pytest.mark.slow
@pytest.mark.usefixtures("ray", "_small_batches")
def test_a_second_run_goes_on_where_the_first_one_stopped(images, saved, tmp_path):
    output = tmp_path / "captions.jsonl"
    before = "".join(json.dumps({"image": str(image), "caption": "known"}) + "\n" for image in images[4:12])
    output.write_text(before + '{"image": "half a li')
    flags = "--bundle", saved, "--output", output, "--engine", "ray", "--workers", "2"
    for _ in range(2):
        assert cli.main(["caption", *map(str, (images[0].parent, *flags))]) == 1
        assert output.read_text().startswith(before)
        fresh = lines(output)[8:]
        assert sorted(line["image"] for line in fresh) == sorted(map(str, (*images[:3], *images[12:])))
        assert all(line["caption"] != "known" for line in fresh)


@pytest.mark.slow
@pytest.mark.usefixtures("ray", "_small_batches")
def test_two_workers_see_what_this_process_sees(images, tmp_path):
    assert_seen_alike(images, tmp_path, "mobilenetv2", EngineOptions("ray", workers=2))


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_what_a_worker_cannot_load_is_one_sentence_here(tmp_path):
    load = functools.partial(captioning.load, tmp_path / "none")
    with pytest.raises(BundleError, match="none is not a bundle"):
        list(ray_engine.caption_images(load, [tmp_path / "a.png"], SEARCH, workers=1))


@pytest.mark.slow
def test_every_machine_works_and_every_task_is_done_once(ray):
    def begin():
        return lambda task: (task, ray.get_runtime_context().get_node_id(), os.environ["TF_NUM_INTRAOP_THREADS"])

    done = list(ray_engine.spread(begin, range(40), 2))
    assert sorted(task for task, _ in done) == list(range(40))
    assert all(answer[0] == task and answer[2] == "1" for task, answer in done)
    assert len({machine for _, (_, machine, _) in done}) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_a_machine_that_lacks_a_library_is_told_in_one_sentence():
    class Foreign:
        def __reduce__(self):
            return importlib.import_module, ("no_such_library",)

    with pytest.raises(CaptioningError, match=r"^Ray failed \(.*No module named 'no_such_library'.*to continue\.$"):
        list(ray_engine.spread(Foreign(), [0], 1))


@pytest.mark.slow
def test_where_there_is_no_cluster_one_is_started_and_says_nothing(images, saved, tmp_path):
    required()
    few = shutil.copytree(images[0].parent, tmp_path / "few", ignore=lambda *_: [image.name for image in images[2:]])
    command = [sys.executable, "-m", "captioning", "caption", str(few), "--bundle", str(saved), "--engine", "ray"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment | {"RAY_ADDRESS": "local"})
    assert (done.returncode, done.stderr) == (0, "captioning: 2 captions, confidence unknown.\n")
    assert [line.partition("\t")[0] for line in done.stdout.splitlines()] == [str(few / "00.png"), str(few / "01.png")]
