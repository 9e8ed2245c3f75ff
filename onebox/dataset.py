"""A data set in memory: samples and class names, and how to cut it into parts. `load_dataset` takes a folder or one
annotation file of any supported layout; a `Dataset` never changes and never holds a pixel. Reads headers of pictures
only, and never writes.
"""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import os
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import get_args, overload

from onebox.errors import AnnotationError, ConfigError, DataError
from onebox.formats.assembly import Assembled, assemble
from onebox.formats.pictures import Pictures
from onebox.formats.records import MISSING_PICTURE, ReadOptions, Skipped
from onebox.formats.table import Choice, choose_layout
from onebox.formats.tree import Tree, scan
from onebox.formats.unpacked import path_in_unpacked
from onebox.splitting import Groups, assign, name_groups, read_fractions
from onebox.types import Multiple, Sample

__all__ = ["Dataset", "Multiple", "Skipped", "load_dataset"]

_PART_ORDER = ("train", "val", "test")
#: Layouts in which an annotation without an object says that there is none: the picture has a file of its own, or a
#: word for it. In the others (lists of all pictures, labelling projects) it may as well be that nobody has looked.
_EMPTY_MEANS_NONE = frozenset({"labelme", "onebox", "voc", "yolo"})


@dataclass(frozen=True, slots=True)
class Dataset:
    """Samples sorted by path, and the class names in the order a model numbers them.

    `layout` is the name of the layout read; `root` its folder as given; `notes` say what was chosen and why; `skipped`
    lists what was left out of the load, `remarks` what was kept but changed or chosen (clipped boxes, the largest of
    several objects). Both speak of the whole load, in subsets too. Pictures without a label are samples as well: see
    `labelled`.
    """

    samples: tuple[Sample, ...]
    class_names: tuple[str, ...]
    layout: str
    root: str
    notes: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    remarks: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    @property
    def labelled(self) -> Dataset:
        """The samples that have a label and a box."""
        return self._with(s for s in self.samples if s.label is not None)

    @property
    def without_object(self) -> Dataset:
        """The samples whose annotation says that they hold no object: an empty label file, a null label. A picture
        without an annotation is not one of them."""
        says_so = self.layout in _EMPTY_MEANS_NONE
        return self._with(s for s in self.samples if says_so and s.label is None and s.where)

    @property
    def unlabelled_count(self) -> int:
        """How many samples have no label."""
        return sum(s.label is None for s in self.samples)

    def counts(self) -> dict[str, int]:
        """Labelled samples per class, in the order of `class_names`, zeros included."""
        found = Counter(s.label for s in self.samples)
        return {name: found[name] for name in self.class_names}

    def subset(self, indices: Iterable[int]) -> Dataset:
        """The samples at these positions, still sorted by path, each once. Raises IndexError."""
        return self._with(self.samples[i] for i in sorted({range(len(self.samples))[i] for i in indices}))

    def parts(self) -> tuple[str, ...]:
        """Which of "train", "val" and "test" the layout itself names."""
        present = {s.split for s in self.samples}
        return tuple(part for part in _PART_ORDER if part in present)

    def part(self, name: str) -> Dataset:
        """The samples of one part. Raises DataError where the data set names no such part."""
        if name not in self.parts():
            named = ", ".join(self.parts()) or "none"
            raise DataError(
                f"no part {name!r} in this data set (parts: {named})",
                where=self.root,
                fix="Use --split 0.8 to hold out a share.",
            )
        return self._with(s for s in self.samples if s.split == name)

    @overload
    def split(self, fractions: float, seed: int = 0, *, groups: Groups | None = None) -> tuple[Dataset, Dataset]: ...
    @overload
    def split(
        self, fractions: Sequence[float], seed: int = 0, *, groups: Groups | None = None
    ) -> tuple[Dataset, ...]: ...
    def split(
        self, fractions: float | Sequence[float], seed: int = 0, *, groups: Groups | None = None
    ) -> tuple[Dataset, ...]:
        """Parts that hold about these shares of each class: a single share gives two, (.8, .1, .1) gives three.

        `groups` (one per sample; None: alone) are kept whole. Without them those are kept whole whose file names say
        that they were made from one photo (`splitting.name_groups`); copies under other names take a look at the
        pictures: `copies.copy_groups`. A class of enough groups is in every part; one of a single group, and pictures
        without a label, are in the first.

        Which samples go where depends on the seed, the groups and each picture's path below the root, on nothing else:
        not on the order of files, nor on where the folder lies. Raises ConfigError for impossible shares.
        """
        shares = read_fractions(fractions)
        names = [self.relative_path(sample) for sample in self.samples]
        if groups is None:
            groups = name_groups(names)
        if len(groups) != len(self.samples):
            raise ConfigError(f"{len(groups)} groups for {len(self.samples)} samples", fix="Give one for each.")
        found = assign([s.label for s in self.samples], names, shares, seed=seed, groups=groups)
        parts = range(len(shares))
        return tuple(self._with(s for s, at in zip(self.samples, found, strict=True) if at == part) for part in parts)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over class names, relative paths, labels and boxes: the same data at another place have the
        same fingerprint."""
        digest = hashlib.sha256()
        rows = [repr(self.class_names)]
        for sample in self.samples:
            corners = [repr(v) for v in sample.box.xyxy] if sample.box else []
            rows.append("\0".join([self.relative_path(sample), sample.label or "", *corners]))
        digest.update("\n".join([rows[0], *sorted(rows[1:])]).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def relative_path(self, sample: Sample) -> str:
        """The picture's path from the root, with forward slashes; of a picture inside another file, a path through that
        file, the same wherever it was unpacked."""
        return path_in_unpacked(sample.path) or os.path.relpath(sample.path, self.root or ".").replace(os.sep, "/")

    def _with(self, samples: Iterable[Sample]) -> Dataset:
        return dataclasses.replace(self, samples=tuple(samples))


def load_dataset(
    path: str | os.PathLike[str],
    *,
    multiple: Multiple = "error",
    layout: str | None = None,
    class_names: Sequence[str] | None = None,
    boxes: str | None = None,
) -> Dataset:
    """Reads a folder, or one annotation file (.csv, .json, .jsonl, .xml, .yaml, .parquet, ...), in whatever layout it
    has.

    `multiple` says what to do with pictures of several objects: "error" stops and names the first, "largest" keeps the
    largest box, "skip" leaves the picture out. `layout` forces one of the layouts instead of finding it. `class_names`
    fixes the classes and their order, as when validation data must have those of the training data; where the data
    give ids only (YOLO without a data.yaml) it names them. `boxes` chooses among the kinds of boxes that a layout
    offers side by side ("head" or "body" of the Oxford-IIIT pets).

    Raises ConfigError for an unknown `multiple`, LayoutError where no layout fits, AnnotationError for a file that
    cannot be read as a whole, for several objects (see `multiple`) and for a class not in `class_names`, DataError
    where nothing usable is left.
    """
    if multiple not in get_args(Multiple):
        raise ConfigError(f"unknown choice {multiple!r} for several objects", fix="Use error, largest or skip.")
    with _without_collection():
        return _load(os.fspath(path), multiple, layout, class_names, boxes)


def _load(
    path: str, multiple: Multiple, layout: str | None, class_names: Sequence[str] | None, boxes: str | None
) -> Dataset:
    tree = _tree(path)
    choice = choose_layout(tree, layout, boxes)
    pictures = Pictures(tree)
    options = ReadOptions(tuple(class_names) if class_names is not None else None, boxes)
    reading = choice.layout.read(tree, choice.files, pictures, options)
    made = assemble(reading, pictures, multiple=multiple)
    made.notes.insert(0, choice.note)
    if pictures.beside:
        made.notes.append(f"pictures taken from {', '.join(pictures.beside)}")
    if tree.links_out:
        made.notes.append(f"{tree.links_out} links that lead out of the folder were not followed")
    _require_labels(made, choice, tree, pictures)
    names = _class_names(made, reading.class_order, class_names)
    return Dataset(
        samples=tuple(made.samples),
        class_names=names,
        layout=choice.layout.name,
        root=tree.root,
        notes=tuple(made.notes),
        skipped=tuple(sorted(made.skipped)),
        remarks=tuple(sorted(made.remarks)),
    )


@contextmanager
def _without_collection() -> Generator[None]:
    """Loading makes no reference cycles but millions of records, which the cycle collector would walk through time and
    again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _tree(path: str) -> Tree:
    if os.path.isdir(path):  # noqa: PTH112 - the root stays the string the user gave
        return scan(path)
    if not os.path.exists(path):  # noqa: PTH110
        raise DataError("no such file or folder", where=path, fix="Check the spelling.")
    if not os.path.isfile(path):  # noqa: PTH113 - a FIFO or a device would hang
        raise DataError("neither a folder nor a regular file", where=path, fix="Give a folder or an annotation file.")
    folder, name = os.path.split(path)
    return scan(folder or ".", only=name)


def _require_labels(made: Assembled, choice: Choice, tree: Tree, pictures: Pictures) -> None:
    if any(s.label is not None for s in made.samples):
        return
    where = tree.path(tree.only or "")
    if not pictures.paths and all(s.code == MISSING_PICTURE for s in made.skipped):
        raise DataError(
            f"annotations ({choice.layout.name}) but no pictures here or beside",
            where=where,
            fix="Put the pictures below this folder.",
        )
    if made.skipped:
        first = "; ".join(f"{s.where}: {s.reason}" for s in sorted(made.skipped)[:3])
        raise DataError(
            f"nothing usable in this data set, {len(made.skipped)} pictures or annotations left out, first {first}",
            where=where,
        )
    raise DataError(
        f"no picture has a label ({choice.note})",
        where=where,
        fix="Label some first, or choose another layout with --layout.",
    )


def _class_names(made: Assembled, order: tuple[str, ...], given: Sequence[str] | None) -> tuple[str, ...]:
    """The classes that samples have, in the layout's own order or sorted; or those given."""
    used = {s.label for s in made.samples if s.label is not None}
    if given is not None:
        names = tuple(given)
        for sample in made.samples:
            if sample.label is not None and sample.label not in names:
                raise AnnotationError(
                    f"class {sample.label!r} is not among the {len(names)} expected ({', '.join(names[:8])})",
                    where=sample.where,
                    fix="Correct the class, or train on data that have it.",
                )
        return names
    if not order:
        return tuple(sorted(used))
    unused = [name for name in order if name not in used]
    if unused:
        shown = ", ".join(unused[:5]) + (f" and {len(unused) - 5} more" if len(unused) > 5 else "")
        made.notes.append(f"classes that no usable picture has, left out: {shown}")
    kept = [name for name in order if name in used]
    return tuple(dict.fromkeys([*kept, *sorted(used.difference(kept))]))
