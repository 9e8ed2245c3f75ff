"""The objects in one row of a Hugging Face data set, be it a line of `metadata.jsonl` or `metadata.csv`, or a row of a
parquet file: they spell boxes and classes the same ways. Takes a row as a dictionary; gives raw objects; never guesses
a class name: a bare number without a name for it is its own name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from onebox.errors import AnnotationError
from onebox.formats.json_records import as_dict, as_list
from onebox.formats.records import (
    NO_BOX,
    UNREADABLE_ANNOTATION,
    Problem,
    RawObject,
    clean_label,
    raw_object,
    to_number,
)
from onebox.formats.tree import Tree, decode, folder_of, read_bytes

#: Class names by the column (or the field of a struct) whose numbers they name.
ClassNames: TypeAlias = Mapping[str, Sequence[str]]

_GROUPS = ("objects", "object", "annotations", "instances")
_BOXES = ("bbox", "bboxes", "box", "boxes", "bounding_box", "bounding_boxes")
_CLASSES = (
    *("category", "categories", "label", "labels", "class", "classes", "class_name", "category_name", "name"),
    *("category_id", "label_id", "class_id", "class_label"),
)
#: Corners or corner and size in four columns, or in a dictionary of four.
_SPELLINGS: tuple[tuple[str, tuple[str, str, str, str]], ...] = (
    ("xyxy", ("xmin", "ymin", "xmax", "ymax")),
    ("xyxy", ("x_min", "y_min", "x_max", "y_max")),
    ("xyxy", ("x1", "y1", "x2", "y2")),
    ("xyxy", ("left", "top", "right", "bottom")),
    ("xywh", ("x", "y", "w", "h")),
    ("xywh", ("x", "y", "width", "height")),
    ("xywh", ("bbox_x", "bbox_y", "bbox_width", "bbox_height")),
)
#: What stands between a feature and its values in the two spellings of a description of features.
_WRAPPERS = frozenset({"feature", "features", "dtype", "sequence", "list", "struct", "dataset_info"})
#: A description has some hundred parts; one of very many is none.
_MOST_PARTS = 100_000
#: Columns whose values are boxes, and every word by which a row with boxes is known, for a first look at a file.
NESTED = frozenset({*_GROUPS, *_BOXES})
BOX_WORDS = (*sorted(NESTED), "xmin", "x_min", "x1", "bbox_x")


class RowObjects(NamedTuple):
    """What one row holds: `listed` is whether its boxes are lists of four, whose order no name tells."""

    objects: list[RawObject]
    listed: bool


def is_annotated(columns: Sequence[str]) -> bool:
    """Whether a row with these columns can hold boxes."""
    known = set(columns)
    return not NESTED.isdisjoint(known) or any(known.issuperset(four) for _, four in _SPELLINGS)


def columns_of_interest(columns: Sequence[str]) -> list[str]:
    """Those that `row_objects` may read."""
    wanted = {*NESTED, *_CLASSES, *(name for _, four in _SPELLINGS for name in four)}
    return [name for name in columns if name in wanted]


def row_objects(row: Mapping[str, Any], names: ClassNames, where: str) -> RowObjects:
    """The objects of a row: of `objects` (a dictionary of lists, or a list of dictionaries), of box and class columns,
    or of four number columns. Lists of four are [x, y, width, height], as Hugging Face's object detection has them."""
    group = next((row[key] for key in _GROUPS if row.get(key) is not None), None)
    if isinstance(group, list):
        return _together([_pairs(as_dict(one), names, where) for one in as_list(group)])
    if group is not None:
        return _pairs(as_dict(group), names, where)
    return _pairs(row, names, where)


def find_class_names(described: object) -> dict[str, list[str]]:
    """Class names by column, out of a description of features: the YAML of a dataset card, a `dataset_infos.json`, or
    the JSON in a parquet schema."""
    found: dict[str, list[str]] = {}
    # YAML may repeat a part of itself by reference, even within itself: each part is looked at once per column
    seen: set[tuple[int, str]] = set()
    pending: list[tuple[object, str]] = [(described, "")]
    while pending:
        part, column = pending.pop()
        if not isinstance(part, (dict, list)) or (id(part), column) in seen or len(seen) > _MOST_PARTS:
            continue
        seen.add((id(part), column))
        if isinstance(part, list):
            for one in as_list(part):
                own = as_dict(one).get("name")
                pending.append((one, own if isinstance(own, str) else column))
            continue
        content = as_dict(part)
        names = as_dict(content.get("class_label")).get("names")
        listed = _names_in_order(content.get("names") if content.get("_type") == "ClassLabel" else names)
        if listed:
            found[column] = listed
        pending.extend((value, column if key in _WRAPPERS else str(key)) for key, value in content.items())
    return found


def _names_in_order(names: object) -> list[str]:
    """Of a list, or of a dictionary by number, which may stand in the order of its keys' texts: 0, 1, 10, 2."""
    if isinstance(names, dict):
        by_number = {int(to_number(key)): name for key, name in as_dict(names).items() if to_number(key).is_integer()}
        names = [by_number[i] for i in range(len(by_number)) if i in by_number]
    listed = [clean_label(name) for name in as_list(names)]
    return listed if all(listed) else []


def class_names_beside(tree: Tree, relative: str) -> tuple[dict[str, list[str]], str]:
    """The class names that the nearest dataset card (`README.md`) or `dataset_infos.json` at or above a file gives, and
    which file that is; nothing where there is none or it is damaged."""
    parts = folder_of(relative).split("/") if folder_of(relative) else []
    listed = set(tree.files)
    for end in range(len(parts), -1, -1):
        for name in ("README.md", "dataset_infos.json", "dataset_info.json"):
            described = "/".join([*parts[:end], name])
            if described in listed:
                names = find_class_names(_description(tree, described))
                if names:
                    return names, described
    return {}, ""


def _description(tree: Tree, relative: str) -> object:
    import yaml  # a JSON file is YAML too

    try:
        text = decode(read_bytes(tree, relative, 1 << 20))[0]
        if relative.endswith(".md"):
            opening, _, rest = text.partition("\n")
            text = rest.partition("\n---")[0] if opening.strip() == "---" else ""
        return yaml.safe_load(text)
    except (yaml.YAMLError, AnnotationError, ValueError, TypeError, RecursionError, AttributeError, OverflowError):
        return None


def _pairs(row: Mapping[str, Any], names: ClassNames, where: str) -> RowObjects:
    """Boxes and classes of one dictionary, one or many of each."""
    class_key = next((key for key in _CLASSES if row.get(key) is not None), None)
    labels = row.get(class_key) if class_key is not None else None
    known = names.get(class_key or "", ())
    box_key = next((key for key in _BOXES if row.get(key) is not None), None)
    if box_key is None:
        spelling = next(((order, four) for order, four in _SPELLINGS if all(key in row for key in four)), None)
        if spelling is None or all(row[key] is None or row[key] == "" for key in spelling[1]):
            return RowObjects([], False)
        order, four = spelling
        return RowObjects([raw_object(_label(labels, known), [row[key] for key in four], where, order=order)], False)
    boxes = row[box_key]
    many = isinstance(boxes, list) and (not boxes or isinstance(boxes[0], (list, dict)))
    written = as_list(boxes) if many else [boxes]
    return _boxed(written, as_list(labels) if isinstance(labels, list) else [labels] * len(written), known, where)


def _boxed(boxes: Sequence[object], labels: Sequence[object], known: Sequence[str], where: str) -> RowObjects:
    if len(boxes) != len(labels):
        reason = f"{len(boxes)} boxes, but {len(labels)} classes"
        return RowObjects([RawObject("", NO_BOX, where, Problem(UNREADABLE_ANNOTATION, reason))], False)
    made = [_boxed_one(box, _label(label, known), where) for box, label in zip(boxes, labels, strict=True)]
    return RowObjects(made, any(isinstance(box, list) for box in boxes))


def _boxed_one(box: object, label: str, where: str) -> RawObject:
    if isinstance(box, dict):
        content = as_dict(box)
        spelling = next(((order, four) for order, four in _SPELLINGS if all(key in content for key in four)), None)
        if spelling is not None:
            return raw_object(label, [content[key] for key in spelling[1]], where, order=spelling[0])
    return raw_object(label, as_list(box), where, order="xywh")


def _label(value: object, known: Sequence[str]) -> str:
    """A class as text: the name of a number where names are known."""
    number = to_number(value) if not isinstance(value, str) else float("nan")
    if number.is_integer() and 0 <= number < len(known):
        return known[int(number)]
    if isinstance(value, (dict, list, bool)):
        return ""
    return clean_label(int(value) if isinstance(value, float) and value.is_integer() else value)


def _together(parts: list[RowObjects]) -> RowObjects:
    return RowObjects([raw for part in parts for raw in part.objects], any(part.listed for part in parts))
