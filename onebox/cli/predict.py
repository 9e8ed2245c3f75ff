"""`onebox predict`: one output row per input picture, in order, whatever happens to its neighbours."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import typer

from onebox.calibration import checked_coverage
from onebox.errors import CalibrationError, ConfigError, OneboxError, PictureError
from onebox.files import atomic_path, make_folder
from onebox.formats.spreadsheet import safe_cell
from onebox.images import PICTURE_SUFFIXES
from onebox.predictions import Prediction, no_calibration
from onebox.runtime import Localizer, load

_CORNERS = ("x_min", "y_min", "x_max", "y_max")
_CSV_COLUMNS = ("path", "label", "score", *_CORNERS, "error")
#: More of them with --coverage; the classes of a set are parted by " | ".
_OUTER_CORNERS = tuple(f"outer_{corner}" for corner in _CORNERS)
_CSV_PROMISES = ("presence", "present", "coverage", *_OUTER_CORNERS, "class_set")


def run_predict(
    model_path: Path,
    pictures: Iterable[Path],
    *,
    json_to: str | None = None,
    csv_to: str | None = None,
    draw: Path | None = None,
    crop: Path | None = None,
    coverage: float | None = None,
    only_present: bool = False,
    refine: bool | None = None,
) -> None:
    """Predicts, writes rows and pictures, with a `coverage` also what can be promised; with `only_present` those alone
    that hold an object. Exits 1 where not one picture could be read. Raises OneboxError."""
    if json_to is not None and csv_to is not None:
        raise ConfigError("--json and --csv cannot be given together")
    model = load(model_path, refine=refine)
    _can_be_asked(model, coverage, only_present=only_present)
    paths = list(expand(pictures))
    if not paths:
        raise ConfigError("no pictures in what was given")
    _keep_apart(paths, draw, crop)
    names = _Names()
    columns = _CSV_COLUMNS + (_CSV_PROMISES if coverage is not None else ())
    folders = [make_folder(folder) for folder in (draw, crop) if folder is not None]
    good = left_out = 0
    with _output(csv_to if csv_to is not None else (json_to or "-")) as out:
        write = _csv_writer(out, columns) if csv_to is not None else _json_writer(out)
        for path, answer in zip(paths, model.stream(paths), strict=True):
            if isinstance(answer, PictureError):
                write({"path": str(path), "error": str(answer)})
                continue
            good += 1
            if only_present and not answer.present:
                left_out += 1
                continue
            write(answer.to_dict(coverage) | {"path": str(path)})
            if folders:
                _write_pictures(answer, names.take(path), draw, crop, coverage)
    if left_out:
        typer.echo(f"onebox: {left_out} of {len(paths)} pictures hold none of the model's objects", err=True)
    if good < len(paths):
        typer.echo(f"onebox: {len(paths) - good} of {len(paths)} pictures could not be read", err=True)
    if not good:
        raise typer.Exit(1)


def expand(pictures: Iterable[Path]) -> Iterator[Path]:
    """Folders become the pictures below them, sorted; everything else stays, existing or not."""
    for path in pictures:
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES and p.is_file())
        else:
            yield path


def _keep_apart(paths: Iterable[Path], draw: Path | None, crop: Path | None) -> None:
    """Raises ConfigError where drawn pictures would be written over the pictures themselves, or over each other."""
    flags = {"--draw": draw, "--crop": crop}
    places = {flag: folder.resolve() for flag, folder in flags.items() if folder is not None}
    if len(places) == 2 and len(set(places.values())) == 1:
        raise ConfigError("--draw and --crop cannot write to the same folder", where=str(draw))
    sources = {path.parent.resolve() for path in paths}
    for flag, place in places.items():
        if place in sources:
            raise ConfigError(
                f"{flag} would write among the pictures themselves", where=str(flags[flag]), fix="Give another folder."
            )


class _Names:
    """File names for drawn pictures: the picture's own, numbered where two folders hold the same."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, path: Path) -> str:
        name, n = f"{path.stem}.jpg", 1
        while name in self._taken:
            n += 1
            name = f"{path.stem}-{n}.jpg"
        self._taken.add(name)
        return name


def _can_be_asked(model: Localizer, coverage: float | None, *, only_present: bool) -> None:
    """Raises CalibrationError for what the model cannot tell, before the first picture is looked at."""
    asked = coverage is not None or only_present
    if asked and model.manifest.calibration and model.looks_twice != model.manifest.refine:
        raise CalibrationError(
            "what this model promises holds for answers made the way it was calibrated",
            fix=f"Leave out {'--refine' if model.looks_twice else '--no-refine'}.",
        )
    if coverage is not None:
        checked_coverage(coverage)
        if (calibration := model.calibration) is None:
            raise no_calibration()
        for promise in ("outer_box", "class_set"):
            calibration.bound(promise, coverage)
    if only_present and not model.tells_presence:
        raise CalibrationError(
            "this model was not taught to tell pictures without an object",
            fix="Train it again with this version, or use onebox calibrate with --negatives.",
        )


def _write_pictures(
    answer: Prediction, name: str, draw: Path | None, crop: Path | None, coverage: float | None
) -> None:
    for folder, make in ((draw, lambda: answer.plot(coverage)), (crop, answer.crop)):
        if folder is not None:
            with atomic_path(folder / name) as temporary:
                make().save(temporary, "JPEG", quality=92)


@contextlib.contextmanager
def _output(to: str) -> Generator[IO[str]]:
    if to == "-":
        if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
            sys.stdout.reconfigure(errors="surrogateescape" if sys.stdout.encoding == "utf-8" else "backslashreplace")
        yield sys.stdout
        sys.stdout.flush()
        return
    target = Path(to)
    if not target.parent.is_dir():
        raise OneboxError("no such folder", where=str(target.parent), fix="Create it first.")
    # file names that are no UTF-8 go out as the very bytes they are
    with (
        atomic_path(target) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        yield file


def _json_writer(out: IO[str]) -> Any:
    encoding = getattr(out, "encoding", None) or "utf-8"

    def write(row: dict[str, Any]) -> None:
        line = json.dumps(row, ensure_ascii=False)
        try:
            line.encode(encoding)
        except UnicodeEncodeError:  # a file name that is no UTF-8, or a terminal that is not: \\u escapes say the same
            line = json.dumps(row)
        out.write(line + "\n")

    return write


def _csv_writer(out: IO[str], columns: tuple[str, ...]) -> Any:
    rows = csv.DictWriter(out, columns, extrasaction="ignore", restval="", lineterminator="\n")
    rows.writeheader()

    def write(row: dict[str, Any]) -> None:
        corners = dict(zip(_CORNERS, row.get("box", ()), strict=False))
        corners |= dict(zip(_OUTER_CORNERS, row.get("outer_box", ()), strict=False))
        flat = row | corners | {"class_set": " | ".join(row.get("class_set", ()))}
        rows.writerow({k: _cell(v) for k, v in flat.items() if k in columns})

    return write


def _cell(value: Any) -> Any:
    return safe_cell(value) if isinstance(value, str) else value
