"""The captioner in the box, to compare with."""

from tests.serving.conftest import box, direct

__all__ = ["box", "direct"]
