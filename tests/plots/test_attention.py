"""Heat lies where the attention is; pictures of any image, of any number of words, are complete and readable."""

import io
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image, ImageChops, ImageDraw

from captioning.plots import attention as plots
from captioning.plots import layout
from captioning.plots.attention import (
    attention_variation,
    blend_attention,
    curves_png,
    epochs_png,
    is_attention_static,
    overlay,
    sheet_png,
    strip_png,
    upsample,
    walk_gif,
)

GRIDS = [(1, 1), (2, 2), (7, 7), (8, 8), (11, 11), (3, 5)]
SIZES = [(112, 112), (100, 300), (301, 97), (33, 33)]
SHAPES = [(120, 160), (200, 1000), (1000, 200), (30, 30)]
SQUARE = (192, 192)


def one_hot(grid: tuple[int, int], row: int, column: int) -> np.ndarray:
    attention = np.zeros(grid, "float32")
    attention[row, column] = 1
    return attention


def word(text: str, attention: np.ndarray) -> SimpleNamespace:
    return SimpleNamespace(text=text, probability=0.5, attention=attention)


def words_for(caption: str) -> list[SimpleNamespace]:
    maps = np.random.default_rng(0).dirichlet(np.full(49, 0.1), len(caption.split())).reshape(-1, 7, 7)
    return [word(text, attention) for text, attention in zip(caption.split(), maps.astype("float32"), strict=True)]


def picture(height: int = 120, width: int = 160) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 240, (12, 16, 3), dtype="uint8")
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))


def opened(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png))
    image.load()
    assert image.format == "PNG"
    return image


def frames_of(gif: bytes) -> list[np.ndarray]:
    image, frames = Image.open(io.BytesIO(gif)), []
    assert image.format == "GIF"
    for number in range(image.n_frames):
        image.seek(number)
        frames.append(np.asarray(image.convert("RGB")))
    return frames


@pytest.fixture
def written(monkeypatch):
    """All that is written into a picture: text, colour, size, and whether it stays within its block."""
    found, text = [], ImageDraw.ImageDraw.text

    def listen(self, xy, string, fill, font, anchor):
        left = xy[0] - font.getlength(string) * (anchor == "rs")
        inside = left >= -1 and left + font.getlength(string) <= self.im.size[0] + 1
        found.append(SimpleNamespace(text=string, colour=fill, size=font.size, inside=inside))
        text(self, xy, string, fill, font, anchor=anchor)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", listen)
    return found


def said(written) -> str:
    return " ".join(each.text for each in written)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("size", SIZES)
def test_heat_is_hottest_at_the_centre_of_the_cell_that_is(grid, size):
    for row in range(grid[0]):
        for column in range(grid[1]):
            found = upsample(one_hot(grid, row, column), size)
            assert found.shape == size
            y, x = np.argwhere(found >= found.max() - 1e-6).mean(axis=0) + 0.5
            assert abs(y - (row + 0.5) * size[0] / grid[0]) <= 1
            assert abs(x - (column + 0.5) * size[1] / grid[1]) <= 1


def test_a_hot_cell_looks_the_same_wherever_it_is_and_warms_none_but_its_neighbours():
    for row, column in [(0, 0), (3, 3), (6, 0), (6, 6)]:
        found = upsample(one_hot((7, 7), row, column), (70, 70))
        np.testing.assert_allclose(
            found[10 * row : 10 * row + 10, 10 * column : 10 * column + 10].mean(), 0.79, atol=0.01
        )
        rows, columns = np.argwhere(found > 0).T // 10
        assert abs(rows - row).max() <= 1
        assert abs(columns - column).max() <= 1


@pytest.mark.parametrize("grid", GRIDS)
def test_heat_is_a_share_of_the_most(grid):
    attention = np.random.default_rng(0).dirichlet(np.ones(grid[0] * grid[1])).reshape(grid)
    found = upsample(attention, (64, 48))
    assert 0 <= found.min() <= found.max() == 1
    np.testing.assert_allclose(upsample(attention * 1000, (64, 48)), found, atol=1e-5)
    np.testing.assert_allclose(upsample(np.full(grid, 0.25), (64, 48)), 1, atol=1e-5)
    np.testing.assert_array_equal(upsample(np.zeros(grid), (64, 48)), 0)


def test_heat_turns_with_its_map():
    attention = np.random.default_rng(0).random((5, 8))
    np.testing.assert_allclose(upsample(attention.T, (60, 40)), upsample(attention, (40, 60)).T)
    np.testing.assert_allclose(upsample(attention[::-1], (40, 60)), upsample(attention, (40, 60))[::-1])


def test_an_image_is_painted_where_the_heat_is_and_grey_elsewhere():
    image = picture(140, 140)
    found = blend_attention(image, one_hot((7, 7), 1, 5)).astype(int)
    assert found.shape == image.shape
    colourful = found.max(axis=-1) - found.min(axis=-1)
    assert colourful[60:].max() == colourful[:, :60].max() == 0
    y, x = np.unravel_index(colourful.argmax(), colourful.shape)
    assert abs(y - 30) < 10
    assert abs(x - 110) < 10
    brightness = np.asarray(Image.fromarray(image).convert("L"))[60:].ravel()
    assert (np.diff(found[60:, :, 0].ravel()[np.argsort(brightness)]) >= 0).all()


def test_an_overlay_over_the_grey_image_is_the_painted_image():
    image, attention = picture(140, 100), np.random.default_rng(0).random((7, 7))
    grey = Image.fromarray(image).convert("L").convert("RGBA")
    laid = Image.alpha_composite(grey, Image.fromarray(overlay(attention, (140, 100)))).convert("RGB")
    difference = np.asarray(laid).astype(int) - blend_attention(image, attention)
    assert np.abs(difference).max() <= 2


def test_a_collapsed_caption_looks_at_one_place():
    rng = np.random.default_rng(0)
    same = [word("word", one_hot((7, 7), 2, 2) + 0.01 * rng.random((7, 7))) for _ in range(8)]
    apart = [word("word", one_hot((7, 7), place, place)) for place in range(7)]
    assert is_attention_static(same)
    assert is_attention_static([word("word", each.attention * scale) for scale, each in enumerate(same, start=1)])
    assert not is_attention_static(apart)
    assert not is_attention_static([*same[:7], apart[6]])
    assert not is_attention_static(same[:1])
    assert not is_attention_static([])


def test_attention_moves_as_far_as_words_look_at_different_places():
    there, elsewhere = one_hot((3, 4), 0, 0), one_hot((3, 4), 2, 3)
    assert attention_variation([there] * 5) == 0
    assert attention_variation([there, elsewhere]) == pytest.approx(1 / 2)
    assert attention_variation([5 * there, elsewhere, there]) == pytest.approx(4 / 9)
    assert attention_variation([one_hot((3, 4), *divmod(place, 4)) for place in range(12)]) == pytest.approx(11 / 12)
    assert attention_variation([there]) == 1


@pytest.mark.parametrize("count", [0, 1, 2, 25])
def test_a_strip_tells_every_word_and_its_probability_under_the_title(written, count):
    words = words_for("word " * count)
    opened(strip_png(picture(), words, "a long caption"))
    assert (
        Counter(said(written).split())
        == Counter({"word": count, "50%": count, "a": 1, "long": 1, "caption": 1}) - Counter()
    )


def test_a_strip_says_when_the_attention_hardly_moves(written):
    words = words_for("one two three")
    strip_png(picture(), words)
    assert plots.STILL not in said(written)
    strip_png(picture(), [word("one", words[0].attention)] * 3)
    assert plots.STILL in said(written)


@pytest.mark.parametrize("shape", [*SHAPES, SQUARE])
@pytest.mark.parametrize("count", [1, 9])
def test_a_strip_wastes_no_margin(shape, count):
    page = opened(strip_png(picture(*shape), words_for("a " * count)))
    left, top, right, bottom = ImageChops.invert(page).getbbox()
    assert page.width <= plots.PAGE + 2 * layout.MARGIN
    assert page.height < 1450
    assert abs(left - layout.MARGIN) <= 1
    assert abs(page.width - right - layout.MARGIN) <= 6
    assert abs(page.height - bottom - layout.MARGIN) <= 1
    assert top - layout.MARGIN <= 31


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_all_that_is_written_is_readable_and_within_its_place(written, shape):
    caption = "a counterrevolutionary pneumonoultramicroscopicsilicovolcanoconiosis is on it again"
    image, words = picture(*shape), words_for(caption)
    strip_png(image, words, caption * 3)
    walk_gif(image, words, longest=200)
    epochs_png(image, [(epoch, caption * epoch, 0.1 * epoch) for epoch in (1, 2)], caption)
    sheet_png({caption: [(image, caption, caption * 9, 0.5)]})
    assert [each.text for each in written if not each.inside] == []
    assert min(each.size for each in written) >= layout.SMALLEST
    assert "counterrevolutionary" in said(written)
    assert "…" in said(written)


@pytest.mark.parametrize("count", [9, 20])
def test_a_strip_is_no_burden(count):
    assert len(strip_png(picture(1200, 1600), words_for("word " * count), "a caption")) < 500_000


def test_white_stays_white():
    white = np.full((40, 40, 3), 255, "uint8")
    assert opened(strip_png(white, [])).getextrema() == ((255, 255),) * 3
    assert (frames_of(walk_gif(white, []))[0] == 255).all()


def test_a_walk_has_a_frame_a_word_after_the_image_and_goes_round():
    image, words = picture(150, 300), words_for("a dog runs over the grass")
    gif = walk_gif(image, words, longest=300)
    first, *others = frames_of(gif)
    assert len(others) == len(words)
    assert {frame.shape for frame in others} == {first.shape}
    assert first.shape[1] == 300 + 2 * layout.MARGIN
    shown = np.s_[layout.MARGIN : layout.MARGIN + 150, layout.MARGIN : layout.MARGIN + 300]
    assert abs(first[shown] - image.astype(float)).mean() < 12
    for each, frame in zip(words, others, strict=True):
        assert abs(frame[shown] - blend_attention(image, each.attention).astype(float)).mean() < 8
    opened_gif = Image.open(io.BytesIO(gif))
    assert opened_gif.info["loop"] == 0
    opened_gif.seek(2)
    assert opened_gif.info["duration"] == plots.WORD


def test_a_walk_does_not_flicker():
    words = [word(f"word{column}", one_hot((8, 8), 0, column)) for column in range(4)]
    _, first, *others = frames_of(walk_gif(picture(240, 240), words, longest=240))
    for frame in others:
        np.testing.assert_array_equal(frame[100 : layout.MARGIN + 240], first[100 : layout.MARGIN + 240])
        np.testing.assert_array_equal(frame[: layout.MARGIN], 255)


def test_a_walk_marks_the_present_word(written):
    walk_gif(picture(), words_for("a dog runs"), longest=200)
    colours = [each.colour for each in written if "%" not in each.text]
    dark, pale, marked = layout.INK, layout.PALE, layout.ACCENT
    assert colours == [dark] * 3 + [marked, pale, pale] + [dark, marked, pale] + [dark, dark, marked]
    assert [each.text for each in written].count("50%") == 3


@pytest.mark.parametrize("count", [0, 1, 12])
def test_a_walk_is_no_burden(count):
    gif = walk_gif(picture(480, 480), words_for("word " * count))
    assert len(gif) < 1_500_000
    assert len(frames_of(gif)) == count + 1


@pytest.mark.parametrize("epochs", [1, 2, 14, 15, 30, 200])
def test_rising_captions_are_the_first_the_last_and_some_between(written, epochs):
    captions = [(epoch, f"caption{epoch}", None if epoch % 2 else 0.1) for epoch in range(1, epochs + 1)]
    opened(epochs_png(picture(), captions, "title"))
    told = [int(each.text) for each in written if each.text.isdigit()]
    assert [each.text for each in written if each.text.startswith("caption") and each.text != "caption"] == [
        f"caption{epoch}" for epoch in told
    ]
    assert told == sorted(set(told))
    assert (told[0], told[-1]) == (1, epochs)
    assert len(told) == epochs if epochs <= plots.EPOCHS else 9 < len(told) <= plots.EPOCHS


def test_rising_captions_darken_where_they_are_right(written):
    epochs_png(picture(), [(1, "dog dog cat", 0), (2, "a dog", 0.5)])
    colours = [(each.text, each.colour == layout.INK) for each in written if each.text in {"dog", "cat", "a"}]
    assert colours == [("dog", True), ("dog", False), ("cat", False), ("a", True), ("dog", True)]


@pytest.mark.parametrize(("count", "columns", "lines"), [(1, 1, 1), (5, 5, 1), (7, 5, 2), (20, 5, 4)])
def test_a_sheet_shows_all_its_rows(written, count, columns, lines):
    rows = [(picture(), f"caption{row}", f"reference{row}", row / 2) for row in range(count)]
    page = opened(sheet_png({"": rows}))
    for row in range(count):
        assert {f"caption{row}", f"reference{row}", f"{row / 2:.2f}"} <= {each.text for each in written}
    width, height = plots.THUMBNAIL
    assert columns * width < page.width < max(480, columns * width) + 50 * columns
    assert lines * height < page.height < lines * (height + 150) + 100


def test_a_sheet_names_its_sections_and_what_stands_under_an_image(written):
    rows = [(picture(), f"caption{row}", f"reference{row}", row / 2) for row in range(5)]
    both = opened(sheet_png({"Nothing": [], "The worst": rows[:2], "The best": rows[2:]}))
    assert said(written).index("The worst") < said(written).index("The best")
    assert said(written).count(plots.KEY) == 1
    assert "Nothing" not in said(written)
    one = opened(sheet_png({"All": rows}))
    assert both.width < one.width
    assert both.height > one.height + plots.THUMBNAIL[1]


def test_pictures_of_nothing_are_pictures():
    opened(epochs_png(picture(), []))
    opened(sheet_png({}))
    opened(sheet_png({"The worst": []}))


def test_letters_come_from_a_font_that_has_them(tmp_path, monkeypatch, written, capfd):
    without = layout.font_for("犬 dog", 20)
    assert without.getname()[0] == "DejaVu Sans"
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0)), pen.lineTo((500, 0)), pen.lineTo((500, 500)), pen.closePath()
    names = {letter: f"glyph{ord(letter)}" for letter in "犬走る%0123456789"}
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap({ord(letter): name for letter, name in names.items()})
    builder.setupGlyf(dict.fromkeys([".notdef", *names.values()], pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names.values()], (600, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupOS2()
    builder.setupPost()
    builder.setupNameTable({"familyName": "Kanji", "styleName": "Regular"})
    builder.save(tmp_path / "kanji.ttf")
    entry = font_manager.FontEntry(fname=str(tmp_path / "kanji.ttf"), name="Kanji", style="normal", weight=400)
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [*font_manager.fontManager.ttflist, entry])
    layout._installed.cache_clear()
    assert layout.font_for("犬走る", 20).getname()[0] == "Kanji"
    assert layout.font_for("café", 20).getname()[0] == "DejaVu Sans"
    assert layout.font_for("cafe", 20).getname()[0] == "Aileron"
    opened(strip_png(picture(), words_for("犬 走る 猫"), "犬走る猫" * 30))
    assert all(each.inside for each in written)
    assert capfd.readouterr() == ("", "")
    layout._installed.cache_clear()


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, to look into."""
    drawn, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **others: (drawn.append(self), save(self, *args, **others))
    )
    return drawn


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


def test_self_critical_epochs_have_a_score_and_no_loss(figures):
    history = [{"epoch": 1, "loss": 4, "dev_loss": 5, "CIDEr-D": 0.2}, {"epoch": 2, "reward": 0.3, "CIDEr-D": 0.4}]
    opened(curves_png(history, "CIDEr-D"))
    losses, scores = figures[0].axes
    assert [line.get_ydata().tolist() for line in (*losses.lines, *scores.lines)] == [[4], [5], [0.2, 0.4]]
    assert [text.get_text() for text in scores.get_legend().get_texts()] == ["self-critical"]
