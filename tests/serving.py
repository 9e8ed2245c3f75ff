"""What the tests of `onebox serve` share: pictures as files of a request, a token, and how a problem looks."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

TOKEN = "a-token-of-the-tests-0123456789"


def picture(seed: int = 0, size: tuple[int, int] = (64, 48), kind: str = "PNG", **options: Any) -> bytes:
    """Noise with a red or green rectangle in it, as a file."""
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(60, 120, (size[1], size[0], 3), dtype=np.uint8))
    colour = ((220, 30, 30), (30, 200, 30))[seed % 2]
    image.paste(colour, (size[0] // 4, size[1] // 4, size[0] * 3 // 4, size[1] * 3 // 4))
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def files(*pairs: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    """Names and contents as the field `file`, in order."""
    return [("file", pair) for pair in pairs]


def bomb(side: int = 8_000) -> bytes:
    """A PNG of a few bytes that claims to be this wide and high."""
    small = bytearray(picture())
    small[16:24] = side.to_bytes(4, "big") * 2
    small[29:33] = zlib.crc32(bytes(small[12:29])).to_bytes(4, "big")
    return bytes(small)


def says_problem(answer: httpx.Response, status: int, words: str) -> None:
    """A problem in the house's form, in words, without anything of the server's insides."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    what = error if answer.request.url.path.startswith("/v2") else error["what"]
    assert words in (what if isinstance(error, str) else f"{what}. {error['fix']}"), error
    keeps_to_itself(answer.text)


def keeps_to_itself(text: str) -> None:
    """No path, no stack, no object of Python's."""
    for sign in ("Traceback", "site-packages", ".py", " at 0x", str(Path.home()), "/tmp/", "BytesIO"):
        assert sign not in text, text
