"""The two plots of the report, as SVG elements that take their colours from the page.

The same numbers give the same bytes: there is no date, and ids come from a fixed salt. The ids of
each plot have a prefix of their own.
"""

import io
import re

import numpy as np
from markupsafe import Markup, escape
from matplotlib import style
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK, LINE, BASE, NEW = "#101112", "#d0d1d2", "#0072b2", "#d55e00"
COLOURS = {INK: "var(--ink)", LINE: "var(--line)", BASE: "var(--base)", NEW: "var(--new)"}
STYLE = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "svg.fonttype": "none",  # text stays text, in the font of the page
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "axes.linewidth": 1,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "path.simplify": False,
}
BINS = 50


def _to_svg(figure: Figure, name: str, description: str) -> Markup:
    """Returns the figure as an <svg> element; screen readers read the description aloud."""
    file = io.StringIO()
    no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with style.context({"svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(file, metadata=no_metadata)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    # the style sheet of matplotlib would apply to the whole page
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    for colour, variable in COLOURS.items():
        text = text.replace(colour, variable)
    text = re.sub(r'width="[^"]*pt"|height="[^"]*pt"', "", text, count=2)
    head = f'<svg class="plot" role="img" aria-label="{escape(description)}"'
    return Markup(text.replace("<svg", head, 1).strip())


def score_range(score: np.ndarray, threshold: float) -> tuple[float, float]:
    """Returns the ends of a histogram that shows the middle 99 % of score[N] and the threshold."""
    finite = score[np.isfinite(score)]
    ends = np.percentile(finite, (0.5, 99.5)) if finite.size else np.zeros(2)
    ends = [*ends, threshold] if np.isfinite(threshold) else ends
    low, high = float(np.min(ends)), float(np.max(ends))
    margin = 0.02 * (high - low) or 0.5
    return low - margin, high + margin


def score_histogram(score: np.ndarray, is_base: np.ndarray | None, threshold: float) -> Markup:
    """Returns the histogram of score[N] without NaN; one per kind if is_base[N] is known.

    Scores outside `score_range` count in the first or the last bin.
    """
    ends = score_range(score, threshold)
    edges = np.linspace(*ends, BINS + 1)
    inside = np.clip(score, edges[0], edges[-1])
    kinds: list[tuple[np.ndarray, str, str | tuple]] = [(np.ones(len(score), bool), BASE, "-")]
    if is_base is not None:
        kinds = [(is_base, BASE, "-"), (~is_base, NEW, (0, (3, 1.5)))]
    with style.context(["default", STYLE]):  # independent of the user's settings
        figure = Figure(figsize=(5, 2.9), layout="constrained")
        axes = figure.add_subplot()
        for rows, colour, dashes in kinds:
            counts, _ = np.histogram(inside[rows], edges)
            axes.stairs(counts, edges, fill=True, color=colour, alpha=0.28)
            axes.stairs(counts, edges, color=colour, linewidth=1.3, linestyle=dashes)
        if np.isfinite(threshold):
            axes.axvline(threshold, color=INK, linewidth=1.3)
        axes.set(xlabel="log-odds that an image shows a base class", ylabel="images")
        axes.set(xlim=ends, ylim=(0, None))
        description = "Histogram of the log-odds"
        if is_base is not None:
            description += " of base images and of new images"
        return _to_svg(figure, "scores", f"{description}; the threshold is {threshold:.3g}")


def reliability_diagram(calibration: dict) -> Markup:
    """Returns a bar per bin of `figures.reliability`: its accuracy, next to the diagonal."""
    bins = len(calibration["count"])
    left = np.arange(bins) / bins
    with style.context(["default", STYLE]):  # independent of the user's settings
        figure = Figure(figsize=(5, 3.4), layout="constrained")
        axes = figure.add_subplot()
        axes.bar(
            left,
            np.nan_to_num(calibration["accuracy"]),
            width=1 / bins,
            align="edge",
            color=(BASE, 0.28),
            edgecolor=BASE,
            linewidth=1.3,
        )
        axes.plot([0, 1], [0, 1], color=INK, linewidth=1.3, linestyle=(0, (4, 2)))
        axes.set(xlabel="probability of the first guess", ylabel="share of right guesses")
        axes.set(xlim=(0, 1), ylim=(0, 1.01))
        error = calibration["ece"]
        description = f"Reliability diagram in {bins} bins; the calibration error is {error:.4f}"
        return _to_svg(figure, "reliability", description)
