"""Writes YOLO text files with a `data.yaml`: `images/PART/`, `labels/PART/`, one line a picture, fractions in full
precision (which read back as the same pixels within a millionth). A picture without a label has an empty text file,
which YOLO tools take for background.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from onebox.formats.writing import PARTS, REST, Writer, number_text, write_text
from onebox.types import Sample


def _write(samples: Sequence[Sample], class_names: Sequence[str], out: Path) -> list[str]:
    ids = {name: i for i, name in enumerate(class_names)}
    files: list[str] = []
    for sample in samples:
        picture = PurePosixPath(sample.path)
        labels = PurePosixPath("labels", *picture.parent.parts[1:])
        files.append(f"{labels}/{picture.stem}.txt")
        line = ""
        if sample.label is not None and sample.box is not None:
            line = " ".join([str(ids[sample.label]), *map(number_text, sample.box.xywhn)]) + "\n"
        write_text(out / files[-1], line)
    write_text(out / "data.yaml", _yaml(samples, class_names))
    return ["data.yaml", *files]


def _yaml(samples: Sequence[Sample], class_names: Sequence[str]) -> str:
    import yaml  # here, for no other writer needs it

    present = {s.split for s in samples}
    if present <= {None}:
        # Ultralytics asks for both; the same folder twice makes no second part
        folders = {"train": "images", "val": "images"}
        comment = "# One undivided set: name other pictures as val before you trust a score.\n"
    else:
        folders = {part: f"images/{part}" for part in PARTS if part in present}
        missing = " and ".join(part for part in ("train", "val") if part not in present)
        comment = f"# This set has no {missing} part, which Ultralytics asks for.\n" if missing else ""
    document = {**folders, "nc": len(class_names), "names": dict(enumerate(class_names))}
    return comment + yaml.safe_dump(document, allow_unicode=True, sort_keys=False, width=2**31)


def _folder(part: str | None, divided: bool) -> str:
    return f"images/{part or REST}" if divided else "images"


# text files of these names are no labels for our reader, nor for many others
WRITER = Writer("yolo", _folder, _write, awkward=re.compile(r"^(?=(?:readme.*|classes|notes)$)", re.IGNORECASE))
