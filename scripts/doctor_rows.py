"""One line of the doctor's table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """`status` is "ok", "missing" or "wrong"; a `needed` row that is not ok stops the main job."""

    status: str
    name: str
    value: str
    remedy: str = ""
    needed: bool = False


def table(rows: list[Row]) -> str:
    """The rows as aligned text, each remedy on a line of its own below its row."""
    width = max(len(row.name) for row in rows)
    lines = []
    for row in rows:
        lines.append(f"{row.status:<8} {row.name:<{width}}  {row.value}")
        if row.remedy:
            lines.append(f"{'':<8} {'':<{width}}  -> {row.remedy}")
    return "\n".join(lines)
