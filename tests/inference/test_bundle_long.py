"""Faults and kills anywhere in a save: the older bundle or the new one is there, whole; nothing is left lying."""

import errno
import hashlib
import shutil
from pathlib import Path

import pytest

from captioning.errors import StorageError
from captioning.inference import bundle
from tests.faults import failing_everywhere
from tests.inference.test_bundle import config_of, save

ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES)
pytestmark = pytest.mark.slow


@pytest.fixture
def quick(parts, monkeypatch):
    """What a save computes of the network is computed once; what it does to the disk stays."""
    weights, answers, versions = (
        bundle.weights_bytes(parts.model),
        bundle.probe(parts.model.encoder),
        bundle.made_with(),
    )
    monkeypatch.setattr(bundle, "weights_bytes", lambda *_, **__: weights)
    monkeypatch.setattr(bundle, "probe", lambda _: answers)
    monkeypatch.setattr(bundle, "made_with", lambda: versions)


@pytest.fixture(params=["over an older one", "after a kill", "the first one"])
def prepare(request, saved, tmp_path):
    """A new folder in which there is an older bundle, one that a kill left aside in the middle of a swap, or none."""

    def call() -> Path:
        shutil.rmtree(tmp_path / "artifacts", ignore_errors=True)
        (tmp_path / "artifacts").mkdir()
        places = {"over an older one": "name", "after a kill": ".name.old"}
        if place := places.get(request.param):
            shutil.copytree(saved, tmp_path / "artifacts" / place)
        return tmp_path / "artifacts"

    return call


def whole(folder: Path) -> int:
    """The seed that stands in the bundle that would be loaded, whose files are all as they were written; 0: none."""
    place = folder if folder.exists() else bundle.aside(folder)
    if not place.exists():
        return 0
    bundle.check(place)
    config = config_of(place)
    assert {path.name for path in place.iterdir()} == {*config["files"], "config.json"}
    for name, digest in config["files"].items():
        assert hashlib.sha256((place / name).read_bytes()).hexdigest() == digest
    return config["about"]["seed"]


@pytest.mark.parametrize("fault", ["kill", "error"])
def test_a_save_that_goes_wrong_anywhere(prepare, quick, parts, record_property, fault):
    folder = prepare() / "name"
    old, count = whole(folder), 0
    faults = [{"error": number, "lasts": lasts} for number in ERRORS for lasts in (False, True)]
    for each in faults if fault == "error" else [{}]:
        for disk, raised in failing_everywhere(lambda: save(folder, parts), prepare, **each):
            count += 1
            assert whole(folder) in (old, 2), disk.done
            if isinstance(raised, StorageError):
                assert whole(folder) == old, disk.done
            else:
                assert raised is None or fault == "kill", raised
            if raised is None:
                assert whole(folder) == 2, disk.done
            save(folder, parts)
            assert whole(folder) == 2
            assert [path.name for path in folder.parent.iterdir()] == ["name"]
    assert count >= 5 * 5  # every file is opened, written, brought to the disk and renamed there
    record_property(f"{fault}s", count)
    record_property("lost", 0)
