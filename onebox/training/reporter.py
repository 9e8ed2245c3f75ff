"""What a person sees while training runs: stages with progress bars, and one table row per epoch with time left. Takes
facts, prints to the terminal; decides nothing. In a pipe the rows are plain lines and the bars are silent."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol, TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from onebox.training.session import EpochRow

HEADER = "epoch     loss class/box   pull box:class  top-1  mean IoU  joint    img/s   time"


#: Called with (done, total).
Tell: TypeAlias = Callable[[int, int], None]


class Reporter(Protocol):
    """Anything that wants to be told."""

    def say(self, text: str) -> None:
        """One line."""
        ...

    def bar(self, title: str) -> AbstractContextManager[Tell]:
        """A progress bar for a block; the value given is called with (done, total)."""
        ...

    def epoch(self, row: EpochRow) -> None:
        """One finished epoch."""
        ...


class Silent:
    """Says nothing."""

    def say(self, text: str) -> None:
        """See Reporter."""

    @contextmanager
    def bar(self, title: str) -> Generator[Tell, None, None]:
        """See Reporter."""
        yield lambda done, total: None

    def epoch(self, row: EpochRow) -> None:
        """See Reporter."""


class Terminal:
    """Rich on standard error, so that standard output stays for results."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False, emoji=False)
        self._rows = 0

    def say(self, text: str) -> None:
        """See Reporter."""
        self.console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def bar(self, title: str) -> Generator[Tell, None, None]:
        """See Reporter."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            task: TaskID = progress.add_task(title, total=None)

            def tell(done: int, total: int) -> None:
                progress.update(task, completed=done, total=total)

            yield tell

    def epoch(self, row: EpochRow) -> None:
        """See Reporter."""
        if self._rows % 20 == 0:
            self.console.print(HEADER, style="bold", soft_wrap=True)
        self._rows += 1

        def share(value: float | None) -> str:
            return "  -  " if value is None else f"{value:.3f}"

        self.console.print(
            f"{row.epoch:>4}/{row.epochs:<4} {row.loss_class:>6.3f} / {row.loss_box:<7.3f}"
            f"{row.grad_ratio:>9.2f}      {share(row.val_top1)}   {share(row.val_mean_iou)}  {share(row.val_joint_50)}"
            f"{'*' if row.best else ' '} {row.images_per_second:>7.0f} {_clock(row.seconds):>7}",
            markup=False,
            soft_wrap=True,
        )


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"
