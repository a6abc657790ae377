"""Charts: probabilities over labels as bars, a pie or a line, and the losses of a training."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from PIL import Image

from captioning.plots.layout import png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHARTS = ("bar", "pie", "line")
COLOURS = ("#7a1f8f", "#0072b2", "#009e73", "#d55e00", "#e69f00", "#56b4e9", "#cc79a7", "#999999")
OTHERS = "#e6e6ea"  # what all other labels share
LONGEST = 24  # characters of a label


def chart_png(labels: Sequence[str], probabilities: Sequence[float], *, kind: str = "bar", title: str = "") -> bytes:
    """A chart of the kind "bar", "pie" or "line"; a pie shows what is left for all other labels too."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    {"bar": _bar, "pie": _pie, "line": _line}[kind](axes, [_short(label) for label in labels], list(probabilities))
    if title:
        axes.set_title(_plain(title), fontsize=11)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=150, format="png")
    return png(Image.open(drawn).convert("RGB"))


def _bar(axes: "Axes", labels: list[str], probabilities: list[float]) -> None:
    places = range(len(labels))
    bars = axes.barh(places, probabilities, color=COLOURS[0])
    axes.bar_label(bars, [f"{value:.1%}" for value in probabilities], padding=4)
    axes.set_yticks(places, labels)
    axes.invert_yaxis()
    axes.set_xlim(0, max(1.15 * max(probabilities), 0.01))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.spines[["top", "right"]].set_visible(False)


def _pie(axes: "Axes", labels: list[str], probabilities: list[float]) -> None:
    rest = max(0.0, 1 - sum(probabilities))
    colours = [COLOURS[place % len(COLOURS)] for place in range(len(labels))]
    if rest > 0.0005:
        labels, probabilities, colours = [*labels, "all others"], [*probabilities, rest], [*colours, OTHERS]
    wedges = axes.pie(probabilities, colors=colours, startangle=90, counterclock=False)[0]
    names = [f"{label} {value:.1%}" for label, value in zip(labels, probabilities, strict=True)]
    axes.legend(wedges, names, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)


def _line(axes: "Axes", labels: list[str], probabilities: list[float]) -> None:
    places = range(len(labels))
    axes.plot(places, probabilities, "o-", color=COLOURS[0])
    axes.set_xticks(places, labels, rotation=20, ha="right")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _short(label: str) -> str:
    return _plain(label if len(label) <= LONGEST else f"{label[: LONGEST - 1]}…")


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # which begins a formula otherwise


def losses_png(history: Sequence[Mapping[str, float]]) -> bytes:
    """The losses of training and of held-out pictures, epoch by epoch."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    epochs = [row["epoch"] for row in history]
    for name, colour, label in (("loss", COLOURS[1], "training"), ("held_out_loss", COLOURS[3], "held out")):
        axes.plot(epochs, [row[name] for row in history], "o-", color=colour, label=label, markersize=3)
    axes.set_ylabel("loss")
    axes.set_xlabel("epoch")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=150, format="png")
    return png(Image.open(drawn).convert("RGB"))
