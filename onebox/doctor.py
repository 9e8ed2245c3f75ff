"""What is wrong with a data set, picture by picture. Takes a folder, an annotation file or a loaded `Dataset`; decodes
every picture completely, in threads; gives findings with stable codes. Changes nothing and keeps no pixels.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from onebox.dataset import Dataset, Multiple, Skipped, load_dataset
from onebox.errors import PictureError
from onebox.images import open_image

#: Called with (pictures decoded, pictures in all).
Progress: TypeAlias = Callable[[int, int], None]

#: A class of fewer labelled pictures can be neither learnt nor judged.
FEWEST_PER_CLASS = 5
_CHUNK = 256


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong or worth a look. `code` is stable; `picture` a path, None where it concerns none; `file`
    and `line` the annotation's place, None where there is none; `confidence` in 0-1."""

    code: str
    picture: str | None
    file: str | None
    line: int | None
    message: str
    confidence: float = 1.0


@dataclass(frozen=True, slots=True)
class Checkup:
    """The result: `pictures` met in all, `usable` ones with a label that decode, labelled pictures per class, and the
    findings, sorted by code and picture."""

    layout: str
    pictures: int
    usable: int
    classes: dict[str, int]
    findings: tuple[Finding, ...]

    def counts(self) -> dict[str, int]:
        """Findings per code, sorted by code."""
        return dict(sorted(Counter(f.code for f in self.findings).items()))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: layout, pictures, usable, classes (name -> labelled pictures), findings."""
        return {
            "layout": self.layout,
            "pictures": self.pictures,
            "usable": self.usable,
            "classes": dict(self.classes),
            "findings": [asdict(finding) for finding in self.findings],
        }


def check(
    data: str | os.PathLike[str] | Dataset, *, multiple: Multiple = "largest", progress: Progress | None = None
) -> Checkup:
    """Examines a data set. `multiple` is handed to the loading of a path (see `load_dataset`); `progress` is called
    after each picture. Raises what `load_dataset` raises: an OneboxError where nothing can be loaded at all."""
    dataset = data if isinstance(data, Dataset) else load_dataset(data, multiple=multiple)
    findings = [_of_load(entry) for entry in (*dataset.skipped, *dataset.remarks)]
    damaged = _undecodable(dataset, progress)
    findings.extend(damaged)
    bad = {finding.picture for finding in damaged}
    for sample in dataset:
        if sample.label is None:
            file, line = _place(sample.where)
            findings.append(Finding("unlabelled", sample.path, file, line, "a picture without a label"))
    classes = dataset.counts()
    for name, count in classes.items():
        if count < FEWEST_PER_CLASS:
            message = f"class {name!r} has {count} labelled picture{'s' if count != 1 else ''}"
            findings.append(Finding("tiny-class", None, None, None, message))
    left_out = {entry.path for entry in dataset.skipped}.difference(s.path for s in dataset)
    return Checkup(
        layout=dataset.layout,
        pictures=len(dataset) + len(left_out),
        usable=sum(s.label is not None and s.path not in bad for s in dataset),
        classes=classes,
        findings=tuple(sorted(findings, key=lambda f: (f.code, f.picture or "", f.line or 0, f.message))),
    )


def _undecodable(dataset: Dataset, progress: Progress | None) -> list[Finding]:
    """Decodes every picture; those that fail. In chunks, so that memory does not grow with the data set."""
    findings: list[Finding] = []
    done = 0
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(dataset), _CHUNK):
            samples = dataset.samples[start : start + _CHUNK]
            for sample, reason in zip(samples, pool.map(_reason_unreadable, (s.path for s in samples)), strict=True):
                done += 1
                if reason is not None:
                    file, line = _place(sample.where)
                    findings.append(Finding("unreadable-picture", sample.path, file, line, reason))
                if progress is not None:
                    progress(done, len(dataset))
    return findings


def _reason_unreadable(path: str) -> str | None:
    try:
        open_image(path)
    except PictureError as error:
        return error.what
    return None


def _of_load(entry: Skipped) -> Finding:
    file, line = _place(entry.where)
    return Finding(entry.code, entry.path, file, line, entry.reason)


def _place(where: str) -> tuple[str | None, int | None]:
    """ "file:12" -> ("file", 12); a file without a line, or nothing at all, as they are."""
    file, _, line = where.rpartition(":")
    if file and line.isdecimal():
        return file, int(line)
    return where or None, None
