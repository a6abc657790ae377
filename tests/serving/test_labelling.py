"""Labels on the page: by a bundle that was calibrated for it, and what is refused."""

import shutil

import numpy as np
import pytest
from PIL import Image

from captioning.app.tabs.labels import found_html
from captioning.errors import CaptioningError
from captioning.inference.bundle_writer import write_labels
from captioning.inference.labels import Label, Labels, LabelScale
from captioning.serving.labelling import MOST, LabelService
from captioning.serving.pool import CaptionerPool


@pytest.fixture
def photo(tmp_path, pictures):
    Image.fromarray(pictures[0]).save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


@pytest.fixture
def service(saved, captioner, tmp_path):
    folder = tmp_path / "scaled"
    shutil.copytree(saved, folder)
    depth = captioner.engine.encode(np.zeros((1, 32, 32, 3), "uint8")).shape[-1]
    write_labels(folder, LabelScale(np.zeros(depth, "float32"), 0.5, 4.0).record())
    return LabelService(CaptionerPool([folder, saved]))


def test_bundles_that_were_calibrated_for_labels_are_offered(service):
    assert list(service.models) == ["scaled"]


def test_labels_add_up_and_unknown_ones_are_named(service, photo):
    found = service.label(photo, "dog\n cat \ndog\nzebra", "scaled")
    assert {each.text for each in found.found} == {"dog", "cat"}
    assert sum(each.probability for each in found.found) == pytest.approx(1)
    assert "zebra" in found_html(found)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "0 different labels; expected two or more"),
        ("dog\ndog", "1 different labels"),
        ("zebra\nyak", "knows the words of 0 of 2 labels"),
        ("\n".join(map(str, range(MOST + 1))), "1,001 labels are too many; give at most 1,000"),
        ("dog\n" + "x" * 61, "cannot be used"),
    ],
)
def test_lists_that_cannot_be_used(service, photo, text, problem):
    with pytest.raises(CaptioningError, match=problem):
        service.label(photo, text, "scaled")


def test_no_picture(service):
    with pytest.raises(CaptioningError, match=r"No picture was chosen; choose one\."):
        service.label("", "dog\ncat", "scaled")


def test_labels_are_escaped():
    html = found_html(Labels((Label("<b>", 0.75), Label("dog", 0.25)), ("<i>",)))
    assert "<b>" not in html
    assert "<i>" not in html
