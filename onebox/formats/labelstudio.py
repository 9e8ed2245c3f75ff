"""Label Studio's JSON export, the full one and JSON-MIN. Boxes are percentages of the picture, turned clockwise around
their top left corner. Takes such files; gives one record per task, in fractions of the picture; never follows an
address: pictures are looked up by their names among those that are here.

Source: labelstud.io/guide/task_format and labelstud.io/tags/rectanglelabels, read 2026.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

from onebox.formats.json_files import dicts
from onebox.formats.json_records import JsonRecord, as_dict, as_list, iter_records, json_candidates, read_text
from onebox.formats.outlines import around_ellipse, around_points, around_turned
from onebox.formats.pictures import Pictures, is_picture
from onebox.formats.records import (
    BAD_BOX,
    DEFAULT_OPTIONS,
    MISSING_PICTURE,
    NO_BOX,
    UNREADABLE_ANNOTATION,
    Declared,
    Problem,
    RawObject,
    RawPicture,
    Reading,
    ReadOptions,
    Skipped,
    clean_label,
    raw_object,
    to_number,
)
from onebox.formats.tree import Tree, depth_of, folder_of, split_of_file, split_of_folder

_UPLOAD = re.compile(r"/?(?:[\w-]+/)*?data/upload/(?:\d+/)?|upload/(?:\d+/)?", re.IGNORECASE)
_LOCAL = re.compile(r"/?(?:[\w-]+/)*?data/local-files/?\?d=", re.IGNORECASE)
#: Cloud storages and servers: what they hold was downloaded under the same name, or is not here.
_ADDRESS = re.compile(r"(?:https?|s3|gs|azure-blob|azure_spi)://[^/]*/", re.IGNORECASE)
_HEX = re.compile(r"[0-9a-f]{8}-(?=.)")
_PICTURE_KEYS = ("image", "img", "picture", "photo", "image_url", "url", "image_path", "path", "ocr", "captioning")
#: Kinds of regions without a box of their own.
_NO_REGION = frozenset({"keypointlabels", "keypoint", "vectorlabels", "vector", "relation"})
_MASKS = frozenset({"brushlabels", "brush", "bitmasklabels", "bitmask", "magicwand"})
_NOTES = {
    "several": "tasks with several annotations, of which the ground truth or else the first counts",
    "cancelled": "cancelled (skipped) annotations passed over",
    "rotated": "rotated rectangles, their bounding boxes taken",
    "shape": "polygons and ellipses, their bounding boxes taken",
    "labels": "regions with several labels, the first taken",
    "choice": "regions without a label, named by the choice made for the picture",
    "points": "key points and relations passed over",
}


class _Region(NamedTuple):
    """The results of one region together: box and label may come in two of them."""

    value: dict[str, Any]
    kind: str
    width: float
    height: float
    turned: float
    line: int


def detect(tree: Tree) -> list[str]:
    """The Label Studio exports at the shallowest level that has any."""
    found: list[str] = []
    for relative in json_candidates(tree):
        if found and depth_of(relative) > depth_of(found[0]):
            break
        if _looks_like_label_studio(tree.head(relative)):
            found.append(relative)
    return found


def read(tree: Tree, files: list[str], pictures: Pictures, _: ReadOptions = DEFAULT_OPTIONS) -> Reading:
    """All tasks of all files. Raises AnnotationError for a file that is no JSON list of tasks."""
    reading = Reading(list_unlabelled=tree.only is None)
    seen: Counter[str] = Counter()
    for relative in files:
        path = tree.path(relative)
        for record in _tasks(read_text(tree, relative), path):
            where = f"{path}:{record.line}"
            task = as_dict(record.value)
            name = _picture_name(task)
            if name is None:
                reason = "a task that names no picture (data.image)"
                reading.skipped.append(Skipped(path, where, reason, UNREADABLE_ANNOTATION))
                continue
            reading.pictures.append(_picture(task, name, record, relative, tree, pictures, seen))
    reading.notes.extend(f"{text}: {seen[key]}" for key, text in _NOTES.items() if seen[key])
    return reading


def _tasks(text: str, path: str) -> Iterator[JsonRecord]:
    """The tasks of a list; or the one task that the file is (storages sync one file per task)."""
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        yield from iter_records(f"[{text}\n]", path)
    else:
        yield from iter_records(text, path)


def _picture(
    task: dict[str, Any],
    name: str,
    record: JsonRecord,
    relative: str,
    tree: Tree,
    pictures: Pictures,
    seen: Counter[str],
) -> RawPicture:
    path, folder = tree.path(relative), folder_of(relative)
    results = _results(task, seen)
    regions, choice = _regions(results, record, seen)
    objects = [_object(region, choice, path, seen) for region in regions]
    where = objects[0].where if objects else f"{path}:{record.line}"
    sizes = [(r.width, r.height) for r in regions if math.isfinite(r.width) and math.isfinite(r.height)]
    width, height = sizes[0] if sizes else (None, None)
    split = split_of_file(relative)
    made = RawPicture(name, None, where, objects, split, is_01=True, declared=Declared(None, width, height))
    found = _find(name, pictures, folder, split)
    if isinstance(found, Problem):
        made.problem = found
    else:
        made.path = found
    return made


def _results(task: dict[str, Any], seen: Counter[str]) -> list[dict[str, Any]]:
    """The results of the annotation that counts. JSON-MIN has them under the control's own name, without wrapping."""
    written = task.get("annotations", task.get("completions"))
    if not isinstance(written, list):
        return [{"id": i, "type": "", "value": value, **_sizes(value)} for i, value in enumerate(_min_values(task))]
    annotations = dicts(as_list(written))
    valid = [a for a in annotations if not a.get("was_cancelled")]
    seen["cancelled"] += len(annotations) - len(valid)
    seen["several"] += len(valid) > 1
    chosen = next((a for a in valid if a.get("ground_truth") is True), valid[0] if valid else {})
    return dicts(chosen.get("result"))


def _min_values(task: dict[str, Any]) -> list[dict[str, Any]]:
    values = [value for key, value in task.items() if key not in {"predictions", "drafts"}]
    regions = [v for value in values for v in dicts(value) if "x" in v or "points" in v or _labels(v, True)]
    choices = [{"choices": [task[key]]} for key in ("choice", "class", "category") if isinstance(task.get(key), str)]
    return regions + choices


def _sizes(value: dict[str, Any]) -> dict[str, Any]:
    return {key: value.get(key) for key in ("original_width", "original_height", "image_rotation")}


def _regions(results: list[dict[str, Any]], record: JsonRecord, seen: Counter[str]) -> tuple[list[_Region], str | None]:
    """The regions, and the one choice made for the whole picture, if there is just one."""
    lines = record.lines_of_key("value", len(results))
    merged: dict[object, _Region] = {}
    choices: list[str] = []
    for i, result in enumerate(results):
        kind, value = clean_label(result.get("type")).lower(), as_dict(result.get("value"))
        shaped = "x" in value or "points" in value or "rle" in value
        if kind in _NO_REGION or "keypointlabels" in value:
            seen["points"] += 1
            continue
        if not shaped:
            choices += [clean_label(c) for c in as_list(value.get("choices"))]
            continue
        identity = result.get("id")
        key = identity if isinstance(identity, (str, int)) else ("no id", i)
        known = merged.get(key)
        if known is not None:
            # "rectangle" and "labels" (or a choice for the region) are two results of one region
            merged[key] = known._replace(value={**known.value, **value}, kind=f"{known.kind} {kind}")
            continue
        width, height = (to_number(result.get(f"original_{side}")) for side in ("width", "height"))
        turned = to_number(result.get("image_rotation") or 0)
        merged[key] = _Region(value, kind, width, height, turned, lines[i])
    return list(merged.values()), choices[0] if len(choices) == 1 else None


def _object(region: _Region, choice: str | None, path: str, seen: Counter[str]) -> RawObject:
    value, where = region.value, f"{path}:{region.line}"
    labels = _labels(value, False) or _labels(value, True)
    seen["labels"] += len(labels) > 1
    label = labels[0] if labels else choice
    seen["choice"] += not labels and choice is not None
    if "rle" in value or _MASKS & set(region.kind.split()):
        return _problem(label, where, "a brush mask: only rectangles, polygons and ellipses have a box here")
    if region.turned:
        return _problem(label, where, f"drawn on a picture turned by {region.turned:g} degrees: which way is not known")
    box = _box(region, seen)
    if isinstance(box, str):
        return _problem(label, where, box)
    return raw_object(label, box, where)


def _problem(label: str | None, where: str, reason: str) -> RawObject:
    return RawObject(clean_label(label), NO_BOX, where, Problem(BAD_BOX, reason))


def _labels(value: dict[str, Any], any_key: bool) -> list[str]:
    """The labels of a region: of `rectanglelabels`, `labels`, ...; with `any_key`, its own `choices` too."""
    keys = [key for key in value if key.endswith("labels") or (any_key and key == "choices")]
    return [label for key in keys for label in map(clean_label, as_list(value[key])) if label]


def _box(region: _Region, seen: Counter[str]) -> Sequence[float] | str:
    """Corners as fractions of the picture; a reason where they cannot be known."""
    value = region.value
    if "points" in value:
        seen["shape"] += 1
        return [v / 100 for v in around_points(value["points"])]
    angle = to_number(value.get("rotation") or 0)
    if angle and not (region.width > 0 and region.height > 0):
        return "a rotated region without original_width and original_height: its corners cannot be known"
    # a fraction of the width is another number of pixels than one of the height
    aspect = region.width / region.height if angle else 1.0
    if "radiusX" in value:
        seen["shape"] += 1
        x, y, rx, ry = (value.get(key) for key in ("x", "y", "radiusX", "radiusY"))
        return [v / 100 for v in around_ellipse(x, y, rx, ry, math.radians(angle), aspect=aspect)]
    x, y, w, h = (to_number(value.get(key)) / 100 for key in ("x", "y", "width", "height"))
    if not angle:
        return [x, y, x + w, y + h]
    seen["rotated"] += 1
    return around_turned((x, y, w, h), math.radians(angle), aspect=aspect)


def _picture_name(task: dict[str, Any]) -> str | None:
    """What the task says its picture is: one of the usual keys, else the first value that ends like a picture."""
    data = as_dict(task["data"]) if isinstance(task.get("data"), dict) else task
    for key in _PICTURE_KEYS:
        if isinstance(data.get(key), str):
            return data[key]
    uploaded = task.get("file_upload")
    named = [v for v in data.values() if isinstance(v, str) and is_picture(v.partition("?")[0])]
    return named[0] if named else uploaded if isinstance(uploaded, str) else None


def _find(name: str, pictures: Pictures, folder: str, split: str | None) -> str | Problem:
    """The picture by its name as uploaded (with eight hexadecimal digits before it), then by its own name."""
    part = split_of_folder(folder)
    plain = _plain_name(name)
    found = pictures.find(plain, near=folder, split=split, part=part)
    head, slash, base = plain.rpartition("/")
    if isinstance(found, Problem) and found.code == MISSING_PICTURE and _HEX.match(base):
        again = pictures.find(f"{head}{slash}{_HEX.sub('', base)}", near=folder, split=split, part=part)
        return found if isinstance(again, Problem) and again.code == MISSING_PICTURE else again
    return found


def _plain_name(name: str) -> str:
    """The name below the upload folder, the storage or the server. Everything else stays as it is, and is judged as
    any name is."""
    text = name.strip()
    address = _ADDRESS.match(text)
    if address:
        text = text[address.end() :]
    local = _LOCAL.match(text)
    if local:
        return unquote(text[local.end() :].partition("&")[0])
    upload = _UPLOAD.match(text)
    if not address and not upload:
        return text
    return unquote(text[upload.end() if upload else 0 :].partition("?")[0].partition("#")[0])


def _looks_like_label_studio(head: bytes) -> bool:
    full = b'"result"' in head and (b'"annotations"' in head or b'"completions"' in head)
    own = any(key in head for key in (b'"completed_by"', b'"was_cancelled"', b'"from_name"', b'"to_name"'))
    least = b'"rectanglelabels"' in head and (b'"annotation_id"' in head or b'"original_width"' in head)
    return (full and own) or least
