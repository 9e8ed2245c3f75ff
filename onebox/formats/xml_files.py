"""The one way in which XML is parsed: expat, fed whole files, with handlers. Refuses any DOCTYPE before it is read, so
no entity is ever expanded and nothing is fetched; gives what is wrong with a damaged file instead of raising.
"""

from __future__ import annotations

from xml.parsers import expat

from onebox.formats.records import UNREADABLE_ANNOTATION, Skipped

#: Elements may lie this deep in one another; annotations need five.
_DEEPEST = 64


class XmlHandler:
    """Base of the layouts' handlers. Override `opened` and `closed`; `stack` holds the names of the open elements,
    outermost first (the element itself included, in both calls), `line` is where the parser stands."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.stack: list[str] = []
        self._text: list[str] = []
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text.append

    @property
    def line(self) -> int:
        """1-based."""
        return self._parser.CurrentLineNumber

    def opened(self, name: str, attributes: dict[str, str]) -> None:
        """Called at each opening tag."""

    def closed(self, name: str, text: str) -> None:
        """Called at each closing tag with the text since the last tag."""

    def parse(self, raw: bytes) -> Skipped | None:
        """Reads a whole file; what is wrong with it, or None."""
        try:
            self._parser.Parse(raw, True)
        except _Refused as error:
            return self._damaged(error.line, error.reason)
        except expat.ExpatError as error:
            return self._damaged(error.lineno, f"not well-formed XML ({expat.ErrorString(error.code)})")
        except (LookupError, ValueError):  # an encoding that Python or expat does not know
            return self._damaged(1, "XML of an unknown encoding")
        return None

    def _damaged(self, line: int, reason: str) -> Skipped:
        return Skipped(self.path, f"{self.path}:{line}", reason, UNREADABLE_ANNOTATION)

    def _doctype(self, *_: object) -> None:
        raise _Refused(self.line, "a DOCTYPE is not allowed in an annotation; delete it")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.stack.append(name)
        if len(self.stack) > _DEEPEST:
            raise _Refused(self.line, f"elements nested more than {_DEEPEST} deep")
        self._text.clear()
        self.opened(name, attributes)

    def _end(self, name: str) -> None:
        self.closed(name, "".join(self._text))
        self.stack.pop()
        self._text.clear()


class _Refused(Exception):  # noqa: N818 - never leaves this module
    def __init__(self, line: int, reason: str) -> None:
        super().__init__()
        self.line, self.reason = line, reason


def is_root(head: bytes, name: bytes) -> bool:
    """Whether the first bytes of a file open this element (a cheap look, for detection)."""
    start = head.find(b"<" + name)
    return start >= 0 and head[start + 1 + len(name) : start + 2 + len(name)] in {b" ", b">", b"/", b"\n", b"\r", b"\t"}
