"""The labels of one folder: read once, changed picture by picture, on the disk before a change is acknowledged. Takes
marks; gives them back with a revision each, by which a stale change is refused. Writes its own `.jsonl` only; labels in
any other layout are read and left as they are.
"""

from __future__ import annotations

import glob
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from onebox.dataset import load_dataset
from onebox.errors import ConfigError, OneboxError, RunFolderError
from onebox.files import write_atomic
from onebox.formats import jsonl
from onebox.formats.assembly import judge_box
from onebox.formats.pictures import Pictures
from onebox.formats.records import Problem, clean_label
from onebox.formats.table import found_layouts
from onebox.formats.tree import Tree, depth_of, scan
from onebox.images import read_size
from onebox.labelling.rows import OPEN, Mark, Rows
from onebox.types import ImageSize

#: The label file's name where the folder has none of onebox's own yet.
LABELS = "labels.jsonl"
LONGEST_CLASS = 100
MOST_CLASSES = 1000


class StaleError(Exception):
    """The picture was changed since the revision that a change was made on. `mark` and `revision` are those of now."""

    def __init__(self, mark: Mark, revision: int) -> None:
        super().__init__("changed meanwhile")
        self.mark, self.revision = mark, revision


class Change(NamedTuple):
    """What is said of a picture now. `revision` grows with every change of it, `sequence` with every change at all."""

    picture: str
    mark: Mark
    revision: int
    sequence: int


@dataclass(slots=True)
class _Stamp:
    """By which a file is known not to have been changed by somebody else."""

    size: int
    changed: int
    number: int


class Store:
    """The labels below `root`. Pictures are named by their path from there, with forward slashes.

    Raises DataError where the folder cannot be listed, ConfigError where it has several label files of onebox or one
    that is something else, AnnotationError for one of a newer version.
    """

    def __init__(self, root: str, classes: Sequence[str] = ()) -> None:
        self.root = root
        tree = scan(root)
        self._pictures = Pictures(tree)
        self.paths: list[str] = [path for path in self._pictures.paths if not path.startswith("../")]
        self._known = set(self.paths)
        self.file = Path(root, _label_file(tree))
        self.notes: list[str] = []
        #: Pictures that deserve another look from the beginning -> why.
        self.doubts: dict[str, str] = {}
        self._parts: dict[str, str] = {}
        self._lock = threading.RLock()
        self._revisions: dict[str, int] = {}
        self._sequence = 0
        self._log: dict[str, int] = {}
        self._stamp: _Stamp | None = None
        _clear_parts(self.file)
        self._rows = self._read()
        if not self.file.exists():
            self._import(tree)
        for name in classes:
            if self._check_class(name):
                self._rows.add_class(name)

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of the label file."""
        return tuple(self._rows.classes)

    @property
    def sequence(self) -> int:
        """How many changes there were."""
        return self._sequence

    @property
    def damaged(self) -> list[str]:
        """The label file's unusable lines, as "labels.jsonl:12: reason"."""
        return [f"{self.file.name}:{one.line}: {one.reason}" for one in self._rows.damaged]

    def get(self, picture: str) -> Change:
        """What is said of a picture. Raises KeyError for one that is not in the folder."""
        with self._lock:
            return self._change(picture)

    def all(self, since: int = -1) -> list[Change]:
        """Every picture, or those changed after the sequence `since`."""
        with self._lock:
            paths = self.paths if since < 0 else [path for path, at in self._log.items() if at > since]
            return [self._change(path) for path in paths]

    def marks(self) -> dict[str, Mark]:
        """What is said of every picture that anything is said of."""
        with self._lock:
            return self._rows.marks()

    def put(self, picture: str, mark: Mark, revision: int) -> Change:
        """Says `mark` of a picture, on the disk when this returns. A box is clipped to the picture.

        Raises KeyError for an unknown picture, StaleError where `revision` is not the present one, ConfigError for a
        class that is not listed or a box that cannot be, PictureError, RunFolderError where it cannot be written.
        """
        with self._lock:
            if picture not in self._known:
                raise KeyError(picture)
            self._follow()
            present = self._change(picture)
            if present.revision != revision:
                raise StaleError(present.mark, present.revision)
            size = read_size(self.path(picture))
            mark = _judged(mark, size, self.classes)
            before = self._rows
            more: dict[str, Any] = {"width": size.width, "height": size.height}
            if picture in self._parts:
                more = {"split": self._parts[picture], **more}
            self._rows.set_mark(picture, mark, more)
            try:
                self._write()
            except RunFolderError:
                before.set_mark(picture, present.mark, more)
                raise
            self._touch(picture)
            self.doubts.pop(picture, None)
            return self._change(picture)

    def add_class(self, name: str) -> str:
        """Adds a class; gives its name as it is written. Raises ConfigError for one that cannot be."""
        with self._lock:
            self._follow()
            clean = clean_label(name)
            if self._check_class(clean):
                self._rows.add_class(clean)
                try:
                    self._write()
                except RunFolderError:
                    self._rows.remove_class(clean)
                    raise
                self._sequence += 1
            return clean

    def add_picture(self, path: str) -> Change:
        """A picture that has come into the folder meanwhile."""
        with self._lock:
            if path not in self._known:
                self.paths.append(path)
                self._known.add(path)
            self._touch(path)
            return self._change(path)

    def path(self, picture: str) -> str:
        """The file of a picture of the folder. Raises KeyError for any other name."""
        if picture not in self._known:
            raise KeyError(picture)
        return os.path.join(self.root, *picture.split("/"))  # noqa: PTH118 - may hold odd bytes

    def _change(self, picture: str) -> Change:
        if picture not in self._known:
            raise KeyError(picture)
        return Change(picture, self._rows.mark(picture), self._revisions.get(picture, 0), self._log.get(picture, 0))

    def _touch(self, picture: str) -> None:
        self._sequence += 1
        self._log[picture] = self._sequence
        self._revisions[picture] = self._revisions.get(picture, 0) + 1

    def _check_class(self, name: str) -> bool:
        """Whether it is a new one. Raises ConfigError for a name that cannot be a class."""
        if not name or clean_label(name) != name:
            raise ConfigError(f"{name!r} cannot be a class name", fix="Give it one line of visible characters.")
        if len(name) > LONGEST_CLASS:
            raise ConfigError(f"a class name of {len(name)} characters", fix=f"Use at most {LONGEST_CLASS}.")
        if name in self._rows.classes:
            return False
        if len(self._rows.classes) >= MOST_CLASSES:
            raise ConfigError(f"more than {MOST_CLASSES} classes")
        return True

    # -- the file ------------------------------------------------------------------------------------------------------

    def _read(self) -> Rows:
        if self.file.is_symlink():
            raise ConfigError("the label file is a link", where=str(self.file), fix="Put the file itself there.")
        try:
            raw = self.file.read_bytes() if self.file.exists() else b""
            self._stamp = _stamp(self.file)
        except OSError as error:
            raise RunFolderError(f"cannot read ({error.strerror or error})", where=str(self.file)) from None
        rows = Rows(raw, self._find, str(self.file))
        if raw.strip() and not rows.marks() and not rows.classes and rows.damaged:
            raise ConfigError(
                f"no label file of onebox (line {rows.damaged[0].line}: {rows.damaged[0].reason})",
                where=str(self.file),
                fix="Labels are kept under this name: rename or move the file.",
            )
        for picture, count in rows.several.items():
            self.doubts[picture] = f"{count} objects in the label file; saving keeps one"
        return rows

    def _find(self, name: str) -> str | None:
        if name in self._known:
            return name
        found = self._pictures.find(name, near="")
        return found if isinstance(found, str) and found in self._known else None

    def _import(self, tree: Tree) -> None:
        """Labels of another layout. They go into the label file with the first change."""
        if not found_layouts(tree):
            return
        try:
            data = load_dataset(self.root, multiple="largest")
        except OneboxError as error:
            self.notes.append(f"The annotations found here cannot be used and stay as they are: {error}")
            return
        for name in data.class_names:
            self._rows.add_class(name)
        for sample in data:
            path = data.relative_path(sample)
            if path not in self._known:
                continue
            if sample.split is not None:
                self._parts[path] = sample.split
            if sample.label is not None and sample.box is not None:
                more = {"split": sample.split} if sample.split is not None else {}
                size = {"width": sample.image_size.width, "height": sample.image_size.height}
                self._rows.set_mark(path, Mark(sample.label, sample.box.xyxy), {**more, **size})
        for one in (*data.skipped, *data.remarks):
            path = os.path.relpath(one.path, self.root).replace(os.sep, "/")
            if path in self._known:
                self.doubts[path] = one.reason
        self.notes.append(f"{data.notes[0]}; labels are kept in {self.file.name} from the first change on")

    def _follow(self) -> None:
        """Where another program changed the label file, its word counts: it is read again."""
        if _stamp(self.file) == self._stamp:
            return
        before, classes = self._rows.marks(), self._rows.classes
        self._rows = self._read()
        for name in classes:
            if name not in self._rows.classes:
                self._rows.add_class(name)
        after = self._rows.marks()
        for picture in before.keys() | after.keys():
            if before.get(picture, OPEN) != after.get(picture, OPEN):
                self._touch(picture)

    def _write(self) -> None:
        write_atomic(self.file, self._rows.to_bytes())
        _flush_folder(self.file.parent)
        self._stamp = _stamp(self.file)


def _label_file(tree: Tree) -> str:
    """The name of the folder's label file, whether or not it is there."""
    ours = [file for file in jsonl.detect(tree) if depth_of(file) == 0]
    if LABELS in tree.files:
        ours = list(dict.fromkeys([*ours, LABELS]))
    if len(ours) > 1:
        raise ConfigError(
            f"several label files ({', '.join(ours[:4])}), where one is expected",
            where=tree.root,
            fix="Join them first: onebox convert DIR OUT --to onebox.",
        )
    return ours[0] if ours else LABELS


def _judged(mark: Mark, size: ImageSize, classes: Sequence[str]) -> Mark:
    """The mark, its box within the picture. Raises ConfigError."""
    if mark.box is None:
        return mark
    if mark.label not in classes:
        raise ConfigError(f"no class {mark.label!r} here", fix="Add it first.")
    judged = judge_box(mark.box, size)
    if isinstance(judged, Problem):
        raise ConfigError(judged.reason, fix="Draw the box inside the picture.")
    x_min, y_min, x_max, y_max = (round(v, 2) for v in judged[0].xyxy)
    if x_max - x_min < 1 or y_max - y_min < 1:
        raise ConfigError("the box is smaller than one pixel", fix="Draw it larger.")
    return Mark(mark.label, (x_min, y_min, x_max, y_max))


def _stamp(file: Path) -> _Stamp | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return _Stamp(found.st_size, found.st_mtime_ns, found.st_ino)


def _clear_parts(file: Path) -> None:
    """Half-written copies of the label file that a killed process left."""
    for left in file.parent.glob(f".{glob.escape(file.name)}.*.part"):
        left.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """The renaming itself, to the disk, where the operating system has a way."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
