"""Tiny models of the published architectures, saved as folders."""

import pytest

from tests.extras import tiny_models


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The folder of each family."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("models")
    return {kind: tiny_models.save(kind, place) for kind in tiny_models.KINDS}
