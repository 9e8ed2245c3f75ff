"""How a page is made: a template and values in, one HTML text out that loads nothing and runs nothing. Every value
passes Jinja's escaping, for names come from users; only our own style sheets are trusted. Computes nothing itself.
"""

from __future__ import annotations

import base64
import io
import unicodedata
from importlib.resources import files
from pathlib import Path
from typing import Any

from PIL import Image

from onebox._version import __version__
from onebox.files import write_atomic

#: What keeps one value from filling the page.
MOST_LETTERS = 400
# Control and format characters, line and paragraph ends.
_UNSEEN = frozenset({"Cc", "Cf", "Zl", "Zp"})


def render_page(folder: str, template: str, *, styles: str = "", **values: Any) -> str:
    """The page as text. `template` is the name of a file in onebox's own `folder`, such as "report"; `styles`, of a
    style sheet there that is added to the one of all pages. In the template, `css`, `version` and the filters `cut`
    and `plain` are there besides `values`; a name that is not given is an error, never an empty place.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    house = files("onebox")
    css = (house / "pages.css").read_text(encoding="utf-8")
    if styles:
        css += (house / folder / styles).read_text(encoding="utf-8")
    environment = Environment(
        loader=FunctionLoader(lambda name: (house / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(cut=cut, plain=plain, figure=_figure, percent=_percent, thousands=_thousands)
    environment.filters["trusted"] = Markup  # for our own drawings
    page = environment.get_template(f"{folder}/{template}")
    return page.render(css=Markup(css), version=__version__, **values)  # noqa: S704 - our own file


def write_page(path: Path, page: str) -> None:
    """Writes it whole or not at all. Raises RunFolderError where the file cannot be written."""
    # A lone half of a surrogate pair (odd file names on POSIX) has no UTF-8; it becomes "?".
    write_atomic(Path(path), page.encode("utf-8", "replace"))


def data_uri(image: Image.Image, quality: int = 82) -> str:
    """An RGB picture as a JPEG that stands in the page itself."""
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(sink.getvalue()).decode("ascii")


def cut(value: object, most: int = MOST_LETTERS) -> str:
    """At most so many letters."""
    text = str(value)
    return text if len(text) <= most else text[:most] + " ..."


def plain(value: object, most: int = MOST_LETTERS) -> str:
    """One line without control characters and without those that turn the direction of writing, cut in the middle:
    both ends of a path tell most."""
    text = str(value)
    if len(text) > most:
        text = f"{text[: most // 3]} ... {text[-(most - most // 3) :]}"
    return "".join("\ufffd" if unicodedata.category(c) in _UNSEEN else c for c in text)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _thousands(value: float) -> str:
    return f"{value:,}"
