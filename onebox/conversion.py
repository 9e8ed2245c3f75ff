"""From one annotation layout to another: `convert` reads a data set and writes it anew, `write_dataset` writes one that
is in memory. Takes any layout that can be read; gives a new folder with annotations and the pictures, byte for byte.
Never changes, moves or decodes a picture, and leaves nothing behind where it could not finish.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from onebox.dataset import Dataset, Skipped, load_dataset
from onebox.errors import ConfigError, PictureError, RunFolderError
from onebox.files import atomic_folder, make_folder
from onebox.formats.naming import new_names
from onebox.formats.table import LAYOUTS
from onebox.formats.writing import Writer, judge_samples
from onebox.types import Multiple


@dataclass(frozen=True, slots=True)
class Converted:
    """What was written. `data` is what was read, its `skipped` and `remarks` what was left out or changed; `files` are
    the annotation files and `names` the pictures' new places by their old paths, both relative to `out`."""

    data: Dataset
    out: str
    to: str
    files: tuple[str, ...]
    names: dict[str, str]

    @property
    def renamed(self) -> int:
        """How many pictures have another file name than before."""
        return sum(os.path.basename(old) != os.path.basename(new) for old, new in self.names.items())  # noqa: PTH119

    @property
    def left_out(self) -> dict[str, int]:
        """Codes of what was left out, with their counts, the most frequent first."""
        return _count(self.data.skipped)

    @property
    def changed(self) -> dict[str, int]:
        """Codes of what was kept but changed or chosen, with their counts, the most frequent first."""
        return _count(self.data.remarks)


def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    to: str,
    *,
    layout: str | None = None,
    multiple: Multiple = "error",
    boxes: str | None = None,
    link: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Converted:
    """Reads `source` (see `load_dataset` for `layout`, `multiple` and `boxes`) and writes it to the new folder `out` as
    `to`: one of the names that `onebox formats` says can be written.

    `link` makes hard links instead of copies. `progress` is called with (pictures done, all). Raises what
    `load_dataset` and `write_dataset` raise.
    """
    find_writer(to)
    if os.path.exists(source):  # noqa: PTH110 - before a long load; where it does not, that will say so
        _keep_apart(os.fspath(source), Path(out))
    data = load_dataset(source, multiple=multiple, layout=layout, boxes=boxes)
    return write_dataset(data, out, to, link=link, progress=progress)


def write_dataset(
    data: Dataset,
    out: str | os.PathLike[str],
    to: str,
    *,
    link: bool = False,
    endings: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Converted:
    """Writes samples, classes in their order and parts (`Sample.split`) to the new folder `out` in the layout `to`,
    with the pictures. Read again, it is the same data set. `endings`: path -> the ending that the new name of that
    picture gets (".png"), where its own does not fit the content.

    Raises ConfigError for an unknown layout, and where `out` lies among the pictures; DataError or AnnotationError for
    samples that cannot be written and read back the same; PictureError for a picture that cannot be read;
    RunFolderError where `out` is not empty or cannot be written. Where it raises, `out` is as it was.
    """
    writer = find_writer(to)
    target = Path(out)
    for folder in {data.root, *(os.path.dirname(sample.path) for sample in data.samples)}:  # noqa: PTH120
        _keep_apart(folder or ".", target)
    judge_samples(data.samples, data.class_names)
    paths = [sample.path for sample in data.samples]
    called = [os.path.splitext(path)[0] + (endings or {}).get(path, os.path.splitext(path)[1]) for path in paths]  # noqa: PTH122
    divided = any(sample.split is not None for sample in data.samples)
    bases = new_names(called, writer.awkward)
    folders = [writer.folder(sample.split, divided) for sample in data.samples]
    names = [f"{folder}/{base}" if folder else base for folder, base in zip(folders, bases, strict=True)]
    # a place stays with samples that have something to say: an object, or that there is none
    says = {s.path for part in (data.labelled, data.without_object) for s in part}
    placed = [
        dataclasses.replace(s, path=name, where=s.where if s.path in says else "")
        for s, name in zip(data.samples, names, strict=True)
    ]
    with atomic_folder(target) as temporary:
        for folder in sorted(set(folders)):
            make_folder(temporary / folder)
        files = writer.write(placed, data.class_names, temporary)
        for done, (path, name) in enumerate(zip(paths, names, strict=True), start=1):
            _bring(path, temporary / name, link=link)
            if progress is not None:
                progress(done, len(paths))
    return Converted(data, os.fspath(out), to, tuple(files), dict(zip(paths, names, strict=True)))


def find_writer(name: str) -> Writer:
    """The writer of this name. Raises ConfigError, which lists them, where there is none."""
    writers = {writer.name: writer for row in LAYOUTS for writer in row.write}
    if name not in writers:
        close = difflib.get_close_matches(name, writers, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        only_read = any(row.name == name for row in LAYOUTS)
        what = f"{name} can be read, but not written" if only_read else f"unknown layout {name!r}{hint}"
        raise ConfigError(what, fix=f"Layouts that can be written: {', '.join(writers)}.")
    return writers[name]


def _count(some: Iterable[Skipped]) -> dict[str, int]:
    counted = Counter(one.code for one in some)
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def _keep_apart(source: str, out: Path) -> None:
    """Raises ConfigError where one folder lies in the other: the new pictures would be found among the old ones."""
    folder = os.path.realpath(source if os.path.isdir(source) else os.path.dirname(source) or ".")  # noqa: PTH112, PTH120
    new = os.path.realpath(out)
    if _within(new, folder) or _within(folder, new):
        lies = "is" if new == folder else "lies in" if _within(new, folder) else "lies around"
        raise ConfigError(f"this folder {lies} the data set's ({folder})", where=str(out), fix="Give one beside it.")


def _within(inner: str, outer: str) -> bool:
    return inner == outer or inner.startswith(outer.rstrip(os.sep) + os.sep)


def _bring(source: str, target: Path, *, link: bool) -> None:
    if link:
        try:
            # the file itself, where the data set holds a link to it
            os.link(os.path.realpath(source), target)
        except OSError as error:
            raise RunFolderError(
                f"no hard link can be made here ({error.strerror or error})",
                where=source,
                fix="Copy the pictures: leave out --link.",
            ) from error
        return
    try:
        opened = open(source, "rb")  # noqa: PTH123, SIM115 - the path may hold odd bytes; closed below
    except OSError as error:
        raise PictureError(f"cannot read this picture ({error.strerror or error})", where=source) from error
    with opened, target.open("xb") as copy:
        shutil.copyfileobj(opened, copy, 2**20)
