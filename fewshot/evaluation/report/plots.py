"""The report's two plots, as SVG text that goes into the page and takes its colours from there.

Same numbers, same bytes: no date, ids from a fixed salt, each plot's ids under its own prefix.
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
    "svg.fonttype": "none",  # text stays text, in the page's font
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


def _drawing(figure: Figure, name: str, words: str) -> Markup:
    """The figure as an <svg> element that says `words` to those who do not see it."""
    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with style.context({"svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(file, metadata=nothing)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    # matplotlib's style sheet would hold for the whole page
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    for colour, variable in COLOURS.items():
        text = text.replace(colour, variable)
    text = re.sub(r'width="[^"]*pt"|height="[^"]*pt"', "", text, count=2)
    head = f'<svg class="plot" role="img" aria-label="{escape(words)}"'
    return Markup(text.replace("<svg", head, 1).strip())


def score_range(score: np.ndarray, threshold: float) -> tuple[float, float]:
    """Where the histogram begins and ends: the middle 99 % of score[N] and the threshold."""
    finite = score[np.isfinite(score)]
    ends = np.percentile(finite, (0.5, 99.5)) if finite.size else np.zeros(2)
    ends = [*ends, threshold] if np.isfinite(threshold) else ends
    low, high = float(np.min(ends)), float(np.max(ends))
    margin = 0.02 * (high - low) or 0.5
    return low - margin, high + margin


def score_histogram(score: np.ndarray, is_base: np.ndarray | None, threshold: float) -> Markup:
    """Histogram of score[N] (no NaN), base and new apart where is_base[N] is known.

    What lies outside `score_range` counts in the first or the last bin.
    """
    ends = score_range(score, threshold)
    edges = np.linspace(*ends, BINS + 1)
    inside = np.clip(score, edges[0], edges[-1])
    kinds: list[tuple[np.ndarray, str, str | tuple]] = [(np.ones(len(score), bool), BASE, "-")]
    if is_base is not None:
        kinds = [(is_base, BASE, "-"), (~is_base, NEW, (0, (3, 1.5)))]
    with style.context(["default", STYLE]):  # whatever a user has set
        figure = Figure(figsize=(5, 2.9), layout="constrained")
        axes = figure.add_subplot()
        for rows, colour, dashes in kinds:
            counts, _ = np.histogram(inside[rows], edges)
            axes.stairs(counts, edges, fill=True, color=colour, alpha=0.28)
            axes.stairs(counts, edges, color=colour, linewidth=1.3, linestyle=dashes)
        if np.isfinite(threshold):
            axes.axvline(threshold, color=INK, linewidth=1.3)
        axes.set(xlabel="log-odds that an image is of a base class", ylabel="images")
        axes.set(xlim=ends, ylim=(0, None))
        words = "Histogram of the routing score" + (
            ", base and new images apart" if is_base is not None else ""
        )
        return _drawing(figure, "scores", f"{words}; the threshold is {threshold:.3g}")


def reliability_diagram(found: dict) -> Markup:
    """Accuracy in each bin of confidence beside the diagonal, of `report_figures.reliability`."""
    bins = len(found["count"])
    left = np.arange(bins) / bins
    with style.context(["default", STYLE]):  # whatever a user has set
        figure = Figure(figsize=(5, 3.4), layout="constrained")
        axes = figure.add_subplot()
        axes.bar(
            left,
            np.nan_to_num(found["accuracy"]),
            width=1 / bins,
            align="edge",
            color=(BASE, 0.28),
            edgecolor=BASE,
            linewidth=1.3,
        )
        axes.plot([0, 1], [0, 1], color=INK, linewidth=1.3, linestyle=(0, (4, 2)))
        axes.set(xlabel="probability of the first guess", ylabel="share that is right")
        axes.set(xlim=(0, 1), ylim=(0, 1.01))
        words = f"Reliability diagram in {bins} bins; the calibration error is {found['ece']:.4f}"
        return _drawing(figure, "reliability", words)
