"""Shared fixtures: the captioner in the box on ONNX Runtime, and a service on it."""

import pytest

import captioning
from captioning.data.feedback import FeedbackStore
from captioning.serving.pool import CaptionerPool
from tests.serving.service import asked


@pytest.fixture(scope="session")
def box():
    """The pool of the captioner in the box; tests do not unload it."""
    return CaptionerPool([captioning.in_the_box()], engine="onnx")


@pytest.fixture(scope="session")
def direct(box):
    """That captioner itself, to compare with."""
    return captioning.load(captioning.in_the_box(), engine="onnx")


@pytest.fixture(scope="module")
def client(box, tmp_path_factory):
    """A client of a service without keys."""
    folder = tmp_path_factory.mktemp("service")
    with asked(box, folder, feedback=FeedbackStore(folder / "said.db")) as client:
        yield client
