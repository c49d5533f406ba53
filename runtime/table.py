"""Lays rows out as a table for a terminal or for Markdown; needs no package."""

import re
from collections.abc import Sequence
from numbers import Integral

Cell = str | int | float | None
NUMBER = re.compile(r"[-+]?\d[\d.,]*(e[-+]\d+)?( ?%)?( ± ([\d.]+|nan|-))?|nan|-|")


def table(
    rows: Sequence[Sequence[Cell]],
    header: Sequence[str] = (),
    *,
    digits: int = 2,
    markdown: bool = False,
) -> str:
    """Returns the rows as text with aligned columns, below `header` if there is one.

    Columns of numbers stand right-aligned, all others left-aligned. A float gets `digits` decimal
    places and an int separators of thousands. None and NaN become "-". A string stays as it is: it
    counts as a number if it reads like one ("12.5", "3 %", "81.2 ± 0.4", "-", ""). With `markdown`
    the result is a Markdown table, which needs a header. Raises ValueError if the rows and the
    header differ in length.
    """
    body = [[_text(cell, digits) for cell in row] for row in rows]
    lines = ([list(header)] if header else []) + body
    if len({len(line) for line in lines}) > 1:
        raise ValueError("table: the rows and the header differ in length")
    columns = list(zip(*lines, strict=True))
    numeric = [all(map(NUMBER.fullmatch, column[bool(header) :])) for column in columns]
    if markdown:
        rule = ["---:" if right else "---" for right in numeric]
        escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
        return "\n".join(f"| {' | '.join(line)} |" for line in [escaped[0], rule, *escaped[1:]])
    widths = [max(map(len, column)) for column in columns]
    aligned = []
    for line in lines:
        cells = zip(line, widths, numeric, strict=True)
        aligned.append([c.rjust(w) if right else c.ljust(w) for c, w, right in cells])
    return "\n".join("  ".join(line).rstrip() for line in aligned)


def _text(cell: Cell, digits: int) -> str:
    if cell is None or cell != cell:  # NaN alone differs from itself
        return "-"
    if isinstance(cell, str):
        return cell
    return f"{cell:,}" if isinstance(cell, Integral) else f"{cell:.{digits}f}"
