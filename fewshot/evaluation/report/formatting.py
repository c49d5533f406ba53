"""How the report writes names and numbers."""

import numbers
import re
from collections.abc import Callable

from markupsafe import Markup

from runtime.files import printable

# Control characters, and those that turn the direction of text: they hide what a name is.
INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def show_all_characters(value: object) -> object:
    """Writes invisible characters of a text as escapes: "a\\u202egpj.exe".

    Markup and values of other types stay as they are. The template escapes for HTML.
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return INVISIBLE.sub(lambda match: f"\\u{ord(match[0]):04x}", printable(value))


def percent(share: float) -> str:
    """Returns "75.40" for .754, and a dash for NaN."""
    return "–" if share != share else f"{100 * share:.2f}"


def cell(value: float | int | None) -> str:
    """Returns a cell of a table of accuracies: fractions in percent, whole numbers as they are."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, numbers.Integral) else percent(value)


def duration(seconds: float) -> str:
    """Returns "0.42 s", "13 s", "3 min 23 s" or "2 h 05 min"."""
    if seconds < 0.995:
        return f"{seconds:.2f} s"
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def plural(count: int, one: str, many: str = "") -> str:
    """Returns "1 image" or "1,234 images"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


FILTERS: dict[str, Callable] = {
    "percent": percent,
    "cell": cell,
    "duration": duration,
    "plural": plural,
}
