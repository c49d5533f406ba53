"""Draws the method's stages and what flows between them: `python -m scripts.draw_method`.

Writes docs/method.svg, the figure of docs/method.md. Same script, same bytes: every place is
written out below, text stays text, and the file holds no date, version or random id.
"""

import io

from runtime.environment import ensure_environment

ensure_environment()

from matplotlib import style
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.path import Path as Line

from runtime.paths import ROOT

SVG = ROOT / "docs" / "method.svg"
WIDTH, HEIGHT = 920, 640  # units; 100 are an inch, y points down
TITLE, NAME, BODY, LEAD = 11, 9.5, 8.5, 15  # points, and units from line to line
INK, GREY = "#1b1b1b", "#5a5a5a"
KINDS = {  # fill and edge
    "input": ("#eeeeee", "#777777"),
    "fit": ("#e6f0f9", "#0072b2"),
    "test": ("#fdeee3", "#d55e00"),
    "frame": ("#fafafa", "#c4c4c4"),
}
WAYS = [  # a way to score, and what stands beside the arrow that leaves it
    ("LP++ on channels [K]", ".6"),
    ("LoRA [K]", ".2"),
    ("auxiliary bias [K]", "+"),
    ("prompt queue [K]", ".1"),
    ("zero-shot + GDA [K]", ".1"),
    ("zero-shot, new [C-K]", ""),
    ("OOD filter", "log-odds"),
]
ROWS = range(384, 601, 36)  # their tops
Box = tuple[str, int, int, int, int, tuple[str, ...]]  # kind, left, top, right, bottom, lines
BOXES: list[Box] = [
    ("input", 10, 42, 142, 86, ("class names", "prompts/, templates")),
    ("fit", 10, 110, 142, 170, ("text", "S sentences", "text_features [C,E]")),
    ("input", 10, 264, 142, 308, ("shots", "N images, P views")),
    ("frame", 172, 36, 912, 330, ()),
    ("fit", 188, 48, 403, 108, ("prompt", "views, plain CLIP [N,P,E]", "class_vectors [K,E]")),
    ("fit", 188, 172, 403, 232, ("lora", "fresh crops [B,3,R,R]", "A and B of q, k, v")),
    ("fit", 444, 110, 659, 170, ("head", "views, tuned CLIP [N,P,E]", "LP++, class_vectors [K,E]")),
    ("fit", 688, 110, 903, 170, ("channel", "views, tuned CLIP [N,P,E]", "scale, shift [E], LP++")),
    ("fit", 188, 260, 403, 320, ("gda", "views, plain CLIP [N,P,E]", "weights [K,E], weight")),
    ("fit", 444, 260, 659, 320, ("ood", "views, plain CLIP [N,P,E]", "filter, threshold")),
    ("fit", 688, 260, 903, 320, ("auxiliary", "views, 2nd encoder [N,P,W]", "weights [W,K]")),
    ("input", 10, 441, 116, 501, ("test image", "P views", "[P,3,R,R]")),
    ("test", 142, 394, 266, 440, ("tuned CLIP", "[P,E]")),
    ("test", 142, 448, 266, 494, ("2nd encoder", "[P,W]")),
    ("test", 142, 538, 266, 584, ("plain CLIP", "[P,E]")),
    *(("test", 292, y, 420, y + 46, ("MTA", "f [E]")) for y in (394, 538)),
    ("test", 292, 448, 420, 494, ("weighted mean", "g [W]")),
    *(("test", 456, y, 650, y + 30, (way,)) for y, (way, _) in zip(ROWS, WAYS, strict=True)),
    ("test", 698, 384, 786, 558, ("blend", "[K]")),
    ("test", 816, 478, 912, 630, ("routing", "log-scores", "[C]")),
    ("input", 816, 384, 912, 444, ("five ids", "a line of", "result.txt")),
]
ARROWS: list[list[tuple[int, int]]] = [
    *([(a, y), (b, y)] for a, y, b in ((142, 286, 172), (142, 140, 444), (659, 140, 688))),
    *([(a, y), (b, y)] for a, y, b in ((116, 471, 142), (420, 471, 456), (786, 518, 816))),
    *([(266, y), (292, y)] for y in (417, 471, 561)),
    *([(438, y), (456, y)] for y in (543, 579)),
    *([(650, y), (698, y)] for y in (399, 435, 471, 507, 543)),
    *([(650, y), (816, y)] for y in (579, 615)),
    *([(x, a), (x, b)] for x, a, b in ((76, 86, 110), (356, 538, 494), (864, 478, 444))),
    *([(x, 246), (x, 260)] for x in (295, 551)),
    [(142, 124), (157, 124), (157, 78), (188, 78)],
    [(142, 156), (157, 156), (157, 196), (188, 196)],
    [(157, 196), (157, 246), (795, 246), (795, 260)],
    [(403, 78), (551, 78), (551, 110)],
    [(403, 190), (551, 190), (551, 170)],
    [(403, 216), (795, 216), (795, 170)],
    *([(129, 471), (129, y), (142, y)] for y in (417, 561)),
    [(420, 417), (438, 417), (438, 399), (456, 399)],
    [(438, 417), (438, 435), (456, 435)],
    [(420, 561), (438, 561), (438, 507), (456, 507)],
    [(438, 561), (438, 615), (456, 615)],
]
TITLES = [(24, "Training: train.py clip_fewshot"), (366, "Test time: test.py")]
NOTES = [(362, 520, "inlierness")]  # left, baseline, words
NOTES += [(664, y + 11, beside) for y, (_, beside) in zip(ROWS, WAYS, strict=True)]


def svg() -> bytes:
    """The figure as the bytes of docs/method.svg."""
    settings = {"svg.hashsalt": "method", "svg.fonttype": "none", "path.simplify": False}
    with style.context(["default", settings, {"font.sans-serif": ["DejaVu Sans", "Verdana"]}]):
        figure = Figure(figsize=(WIDTH / 100, HEIGHT / 100), facecolor="white")
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(HEIGHT, 0))
        axes.set_axis_off()
        for kind, left, top, right, bottom, lines in BOXES:
            fill, edge = KINDS[kind]
            size = right - left, bottom - top
            axes.add_patch(Rectangle((left, top), *size, fc=fill, ec=edge, lw=1.1))
            x, y = (left + right) / 2, (top + bottom - LEAD * (len(lines) - 1)) / 2 + 4
            for row, words in enumerate(lines):  # one by one: each keeps its middle in any font
                name = row == 0 and len(lines) > 1
                text = axes.text(x, y + LEAD * row, words, size=BODY, color=INK, ha="center")
                text.set(size=NAME if name else BODY, weight="bold" if name else "normal")
        for line in ARROWS:
            arrow = FancyArrowPatch(path=Line(line), arrowstyle="-|>", mutation_scale=8)
            arrow.set(color=GREY, linewidth=1)
            axes.add_patch(arrow)
        for baseline, words in TITLES:
            axes.text(10, baseline, words, size=TITLE, weight="bold", color=INK)
        for left, baseline, words in NOTES:
            axes.text(left, baseline, words, size=BODY, color=GREY)
        file = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        FigureCanvasSVG(figure).print_svg(file, metadata=nothing)
    return "".join(f"{each.rstrip()}\n" for each in file.getvalue().splitlines()).encode()


if __name__ == "__main__":
    SVG.write_bytes(svg())
    print(f"wrote {SVG}")
