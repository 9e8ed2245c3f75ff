"""A service that leaks, as a control for the memory test: it keeps every picture it was ever sent. Run like the
command: `python -m tests.leaky_serve serve MODEL --port 0`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onebox.cli import main
from onebox.web.serve_engine import Engine

KEPT: list[Any] = []
answer = Engine.answer


async def keeping(self: Engine, pictures: Sequence[Any], describe: Any) -> list[Any]:
    KEPT.extend(pictures)
    return await answer(self, pictures, describe)


if __name__ == "__main__":
    Engine.answer = keeping  # type: ignore[method-assign]
    main()
