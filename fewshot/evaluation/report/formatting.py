"""How the report writes names and numbers."""

import numbers
import re
from collections.abc import Callable

from markupsafe import Markup

from runtime.files import printable

# Control characters and those that turn the direction of what follows: they hide what a name is.
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def shown(value: object) -> object:
    """A text that shows all its characters: "a\\u202egpj.exe" for a name with such a turn in it.

    Markup and what is no text stay as they are. Escaping for HTML is the template's part.
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", printable(value))


def percent(share: float) -> str:
    """ "75.40" of .754, a dash of NaN."""
    return "–" if share != share else f"{100 * share:.2f}"


def cell(value: float | int | None) -> str:
    """A cell of the table of ways: fractions in percent, whole numbers with separators."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, numbers.Integral) else percent(value)


def duration(seconds: float) -> str:
    """ "0.42 s", "13 s", "3 min 23 s", "2 h 05 min"."""
    if seconds < 9.95:
        return f"{seconds:.2g} s" if seconds >= 0.995 else f"{seconds:.2f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return (
        f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
    )


def plural(count: int, one: str, many: str = "") -> str:
    """ "1 image", "1,234 images"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


FILTERS: dict[str, Callable] = {
    "percent": percent,
    "cell": cell,
    "duration": duration,
    "plural": plural,
}
