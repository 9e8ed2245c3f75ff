"""The demo set as a folder: `train.csv`, `test.csv`, `images/*.jpg`. Takes a folder that is absent or empty and gives
it back filled, all at once or not at all. Never writes into a folder that holds anything.
"""

from __future__ import annotations

import csv
import os
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeAlias

from onebox.demo_data.scenes import SIZES, Difficulty, draw_scene
from onebox.demo_data.shapes import CLASS_NAMES
from onebox.errors import ConfigError, DataError, RunFolderError

HEADER = ("filename", "class", "xmin", "ymin", "xmax", "ymax")

#: A line of the CSV files.
Row: TypeAlias = tuple[str | float, ...]
#: Pictures that a process is given at a time.
_CHUNK = 16
#: One picture in five is for testing.
_TEST_SHARE = 5
_JPEG_QUALITY = 90


def write_demo_data(
    folder: Path,
    *,
    count: int = 600,
    seed: int = 0,
    size: tuple[int, int] = SIZES,
    difficulty: Difficulty | None = None,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draws `count` pictures, the classes in turn, the last fifth of them for testing, and returns `folder`.

    The CSV files have the header filename,class,xmin,ymin,xmax,ymax; file names are relative to `folder`; boxes are
    pixel corners, xmax and ymax the right and bottom edge. The same arguments give the same bytes, whatever the number
    of `processes`; with 2 or more the caller's script needs a main guard. `progress` is called with (drawn, count) from
    the calling thread.

    Raises ConfigError for a `count` under two per class, a negative seed or an impossible size, RunFolderError where
    `folder` holds anything already or cannot be written, DataError where one of the processes was killed.
    """
    folder = Path(folder)
    least = 2 * len(CLASS_NAMES)
    if count < least:
        raise ConfigError(f"{count} demo pictures are too few", fix=f"Ask for {least} or more: two of each class.")
    if seed < 0:
        raise ConfigError(f"the seed {seed} is negative", fix="Give 0 or more.")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise RunFolderError(
            "holds something already", where=str(folder), fix="Name a new folder, or remove this one first."
        )
    building = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        building.mkdir(parents=True)
        (building / "images").mkdir()
        draw = partial(_draw, building, seed, size, difficulty)
        rows = _draw_all(draw, count, processes, progress)
        tests = count // _TEST_SHARE
        _write_csv(building / "train.csv", rows[: count - tests])
        _write_csv(building / "test.csv", rows[count - tests :])
        if folder.exists():
            folder.rmdir()  # empty, as seen above; Windows does not rename onto a folder
        building.rename(folder)
    except BrokenProcessPool:
        raise DataError(
            "one of the processes that draw pictures was killed", fix="Is there enough memory? Free some and try again."
        ) from None
    except OSError as error:
        raise RunFolderError(
            f"cannot be written ({error.strerror or error})", where=str(folder), fix="Choose a folder you may write to."
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)  # gone already where it was renamed
    return folder


def _draw(folder: Path, seed: int, size: tuple[int, int], difficulty: Difficulty | None, index: int) -> Row:
    """Draws one picture into `folder/images` and gives its CSV row."""
    class_name = CLASS_NAMES[index % len(CLASS_NAMES)]
    image, box = draw_scene(seed, index, class_name, size=size, difficulty=difficulty)
    name = f"images/{index:05d}.jpg"
    image.save(folder / name, quality=_JPEG_QUALITY)
    return (name, class_name, *(round(v, 2) for v in box))


def _draw_all(
    draw: Callable[[int], Row], count: int, processes: int, progress: Callable[[int, int], None] | None
) -> list[Row]:
    """The rows of all pictures, in order."""
    rows: list[Row] = []
    with _pool(processes) as pool:
        try:
            for row in pool.map(draw, range(count), chunksize=_CHUNK):
                rows.append(row)
                if progress is not None:
                    progress(len(rows), count)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # do not draw the rest after Ctrl-C
            raise
    return rows


def _pool(processes: int) -> Executor:
    """Processes where they are asked for, threads otherwise: those share one core for much of the time."""
    if processes < 2:
        return ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 8))
    # Ctrl-C goes to every process of a terminal: the one that asked for the pictures stops the others
    return ProcessPoolExecutor(processes, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN))


def _write_csv(path: Path, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(rows)
