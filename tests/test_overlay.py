"""Heat lies where the attention is; figures are pictures of the right shape, from one epoch or one word up."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from captioning import overlay
from captioning.overlay import curves_png, heat, strip_png

GRIDS = [(2, 2), (7, 7), (8, 8), (3, 5)]
SIZES = [(224, 224), (100, 300), (301, 97), (16, 16)]


def one_hot(grid: tuple[int, int], row: int, column: int) -> np.ndarray:
    attention = np.zeros(grid, "float32")
    attention[row, column] = 1
    return attention


def words_for(count: int) -> list[SimpleNamespace]:
    rng = np.random.default_rng(0)
    maps = rng.dirichlet(np.full(49, 0.1), count).reshape(count, 7, 7).astype("float32")
    return [SimpleNamespace(text=f"word{number}", probability=0.5, attention=each) for number, each in enumerate(maps)]


def picture(height: int = 120, width: int = 160) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype="uint8")
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, to look into."""
    drawn, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **others: (drawn.append(self), save(self, *args, **others))
    )
    return drawn


def opened(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png))
    image.load()
    assert image.format == "PNG"
    return image


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("size", SIZES)
def test_heat_is_hottest_in_the_cell_that_is(grid, size):
    for row in range(grid[0]):
        for column in range(grid[1]):
            found = heat(one_hot(grid, row, column), size)
            assert found.shape == size
            y, x = np.argwhere(found == found.max()).mean(axis=0) + 0.5
            assert row <= y / size[0] * grid[0] <= row + 1
            assert column <= x / size[1] * grid[1] <= column + 1


@pytest.mark.parametrize("grid", GRIDS)
def test_heat_is_a_share_of_the_most(grid):
    attention = np.random.default_rng(0).dirichlet(np.ones(grid[0] * grid[1])).reshape(grid)
    found = heat(attention, (64, 48))
    assert 0 <= found.min() < found.max() <= 1
    np.testing.assert_allclose(heat(attention * 1000, (64, 48)), found, atol=1e-5)
    np.testing.assert_allclose(heat(np.full(grid, 0.25), (64, 48)), 1, atol=1e-5)
    np.testing.assert_array_equal(heat(np.zeros(grid), (64, 48)), 0)


@pytest.mark.parametrize(("count", "grid"), [(0, (1, 1)), (1, (1, 2)), (6, (2, 4)), (9, (2, 5))])
def test_a_strip_has_a_panel_a_word_and_the_image_first(figures, count, grid):
    words = words_for(count)
    opened(strip_png(picture(), words, "a caption"))
    panels = figures[0].axes
    assert (panels[0].get_gridspec().nrows, panels[0].get_gridspec().ncols) == grid
    filled = [panel for panel in panels if panel.images]
    assert [panel.get_title() for panel in filled] == ["", *(f"{word.text}  50%" for word in words)]
    assert [len(panel.images) for panel in filled] == [1] + [2] * count
    assert figures[0].get_suptitle() == "a caption"


@pytest.mark.parametrize("shape", [(120, 160), (3000, 200), (200, 3000), (8, 8)])
def test_heat_lies_over_the_whole_image(figures, shape):
    strip_png(picture(*shape), words_for(2))
    for panel in figures[0].axes[1:]:
        image, heat_over_it = panel.images
        assert image.get_extent() == heat_over_it.get_extent()
        assert image.get_size() == heat_over_it.get_size()
        assert max(image.get_size()) <= overlay.PANEL * overlay.DOTS
        rows, columns = image.get_size()
        assert rows / columns == pytest.approx(shape[0] / shape[1], rel=0.1)


@pytest.mark.parametrize("count", [9, 20])
def test_a_strip_is_no_burden(count):
    png = strip_png(picture(1200, 1600), words_for(count), "a caption")
    assert len(png) < 300_000
    assert max(opened(png).size) < 1300


def test_white_stays_white():
    assert opened(strip_png(np.full((40, 40, 3), 255, "uint8"), [])).getpixel((1, 1)) == (255, 255, 255)


@pytest.mark.parametrize("epochs", [1, 2, 30])
def test_curves_have_a_point_an_epoch(figures, epochs):
    history = [
        {"epoch": epoch, "loss": 4 / epoch, "dev_loss": 5 / epoch, "CIDEr-D": 0.01 * epoch}
        for epoch in range(1, epochs + 1)
    ]
    opened(curves_png(history, "CIDEr-D"))
    losses, scores = figures[0].axes
    for line, name in zip((*losses.lines, *scores.lines), ("loss", "dev_loss", "CIDEr-D"), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), range(1, epochs + 1))
        np.testing.assert_array_equal(line.get_ydata(), [row[name] for row in history])
    for panel in (losses, scores):
        low, high = panel.get_xlim()
        ticks = [tick for tick in panel.get_xticks() if low <= tick <= high]
        assert ticks
        assert all(tick == round(tick) for tick in ticks)
