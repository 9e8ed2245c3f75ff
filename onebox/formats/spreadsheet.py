"""Cells that a spreadsheet would run as a formula, made harmless and back. Takes and gives the text of one cell; knows
nothing of rows. Only tables that say that onebox wrote them are turned back: in another's table an apostrophe is an
apostrophe.
"""

from __future__ import annotations

#: The title of the column by which a table says that onebox wrote it: boxes are in pixels, cells are escaped as here.
MARK = "written_by_onebox"
#: OWASP, "CSV Injection".
_RUN = frozenset("=+-@\t\r\n")


def safe_cell(text: str) -> str:
    """The text, with an apostrophe before it where a spreadsheet would run it, or where it begins with one itself (so
    that `plain_cell` gives every text back)."""
    return f"'{text}" if text[:1] == "'" or text[:1] in _RUN else text


def plain_cell(cell: str) -> str:
    """What `safe_cell` was given."""
    return cell.removeprefix("'")
