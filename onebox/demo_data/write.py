"""The demo set as a folder: `train.csv`, `test.csv`, `images/*.jpg`. Takes a folder that is absent or empty and gives
it back filled, all at once or not at all. Never writes into a folder that holds anything.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from onebox.demo_data.scenes import SIZES, Difficulty, draw_scene
from onebox.demo_data.shapes import CLASS_NAMES
from onebox.errors import ConfigError, RunFolderError

HEADER = ("filename", "class", "xmin", "ymin", "xmax", "ymax")

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
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draws `count` pictures, the classes in turn, the last fifth of them for testing, and returns `folder`.

    The CSV files have the header filename,class,xmin,ymin,xmax,ymax; file names are relative to `folder`; boxes are
    pixel corners, xmax and ymax the right and bottom edge. The same arguments give the same bytes. `progress` is
    called with (drawn, count) from the calling thread.

    Raises ConfigError for a `count` under two per class, a negative seed or an impossible size, RunFolderError where
    `folder` holds anything already or cannot be written.
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
        rows = _write_pictures(building, count, seed, size, difficulty, progress)
        tests = count // _TEST_SHARE
        _write_csv(building / "train.csv", rows[: count - tests])
        _write_csv(building / "test.csv", rows[count - tests :])
        if folder.exists():
            folder.rmdir()  # empty, as seen above; Windows does not rename onto a folder
        building.rename(folder)
    except OSError as error:
        raise RunFolderError(
            f"cannot be written ({error.strerror or error})", where=str(folder), fix="Choose a folder you may write to."
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)  # gone already where it was renamed
    return folder


def _write_pictures(
    folder: Path,
    count: int,
    seed: int,
    size: tuple[int, int],
    difficulty: Difficulty | None,
    progress: Callable[[int, int], None] | None,
) -> list[tuple[str | float, ...]]:
    """Draws into `folder/images` and gives the CSV rows in order."""
    (folder / "images").mkdir()

    def draw(index: int) -> tuple[str | float, ...]:
        class_name = CLASS_NAMES[index % len(CLASS_NAMES)]
        image, box = draw_scene(seed, index, class_name, size=size, difficulty=difficulty)
        name = f"images/{index:05d}.jpg"
        image.save(folder / name, quality=_JPEG_QUALITY)
        return (name, class_name, *(round(v, 2) for v in box))

    rows: list[tuple[str | float, ...]] = []
    # Threads, not processes: the heavy parts release the lock, and a caller's script needs no main guard.
    with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 8)) as pool:
        try:
            for row in pool.map(draw, range(count)):
                rows.append(row)
                if progress is not None:
                    progress(len(rows), count)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # do not draw the rest after Ctrl-C
            raise
    return rows


def _write_csv(path: Path, rows: list[tuple[str | float, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(rows)
