"""A reporter that keeps what it is told."""

from __future__ import annotations

from onebox.training.reporter import Silent


class Listening(Silent):
    """Keeps every line that was said, in order."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)
