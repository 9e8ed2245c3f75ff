"""Damaged and hostile annotation files: 10,000 mutations of a sound file per layout, DOCTYPEs, JSON beyond its limits.
Whatever they hold, loading ends in samples with sound boxes or in one OneboxError, never in another exception."""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onebox.dataset import load_dataset
from onebox.errors import AnnotationError, OneboxError
from onebox.formats.assembly import assemble
from onebox.formats.pictures import Pictures, is_picture
from onebox.formats.records import DEFAULT_OPTIONS
from onebox.formats.table import LAYOUTS, Layout
from onebox.formats.tree import Tree, scan
from onebox.types import Sample
from tests.hostile import make_set, put_voc
from tests.small_sets import picture, text

FILES_PER_LAYOUT = 10_000
#: What stands in place of a number, a word or a value.
ODD_NUMBERS = (
    *("nan", "NaN", "inf", "-inf", "Infinity", "-Infinity", "1e999", "-1e999", "1e308", "-1e308", "1e-320", "-0", "-1"),
    *("0", "0.0", "00012", "1_0", "0x10", "٣", "99999999999999999999", "9" * 5000, "1e", ".", "", "null", "true"),
    *("[]", "{}", '"x"', "[1,2]", "1,5", "-", "+7", "1e3", "2147483648", "4294967296"),
)
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1e308, -1e308, float("nan"), float("inf"), 10**30, "", "x", "../x", "\x00", "\ud800"),
    *([], {}, [None], [[]], {"x": None}, [float("nan")] * 4, [1, 2], ["1", "2", "3", "4"], "a" * 3000, [[0] * 4] * 4),
)
ODD_BYTES = (
    *(
        b"",
        b"\0",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\r",
        b"\n",
        b'"',
        b"'",
        b"<",
        b">",
        b"&",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
    ),
    *(b":", b"\t", b";", b"\x80", b"\xed\xa0\x80", b"<!DOCTYPE x>", b"]]>", b"\x1a", b"#", b"---\n", b"!!x "),
)
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")


class Mutator:
    """Changes the files of one data set, one or several changes at a time, always the same for the same seed."""

    def __init__(self, files: dict[str, bytes], seed: int) -> None:
        self.files = files
        self.rng = random.Random(seed)

    def change(self) -> tuple[str, bytes]:
        """(which file, its new content)."""
        name = self.rng.choice(sorted(self.files))
        content = self.files[name]
        for _ in range(self.rng.choice((1, 1, 1, 2, 4))):
            ways = [self._flip, self._cut, self._insert, self._repeat]
            if not name.endswith((".mat", ".parquet", ".png")):
                ways += [self._number] * 3 + [self._lines]
            if name.endswith((".json", ".jsonl")):
                ways += [self._value] * 4
            content = self.rng.choice(ways)(content)
        return name, content

    def _flip(self, content: bytes) -> bytes:
        changed = bytearray(content)
        for _ in range(self.rng.choice((1, 1, 3, 20))):
            if changed:
                changed[self.rng.randrange(len(changed))] = self.rng.randrange(256)
        return bytes(changed)

    def _cut(self, content: bytes) -> bytes:
        a, b = sorted(self.rng.randrange(len(content) + 1) for _ in range(2))
        return self.rng.choice((content[:a], content[a:], content[:a] + content[b:]))

    def _insert(self, content: bytes) -> bytes:
        at = self.rng.randrange(len(content) + 1)
        return content[:at] + self.rng.choice(ODD_BYTES) * self.rng.choice((1, 1, 2, 100)) + content[at:]

    def _repeat(self, content: bytes) -> bytes:
        a, b = sorted(self.rng.randrange(len(content) + 1) for _ in range(2))
        return content[:b] + content[a:b] * self.rng.choice((1, 2)) + content[b:]

    def _number(self, content: bytes) -> bytes:
        places = list(NUMBER.finditer(content))
        if not places:
            return content
        place = self.rng.choice(places)
        return content[: place.start()] + self.rng.choice(ODD_NUMBERS).encode() + content[place.end() :]

    def _lines(self, content: bytes) -> bytes:
        lines = content.split(b"\n")
        self.rng.shuffle(lines)
        return b"\n".join(lines[: self.rng.randrange(len(lines) + 1)])

    def _value(self, content: bytes) -> bytes:
        """Another value, of any type, at any place of a JSON document or of one line of them."""
        lines = content.split(b"\n") if content.count(b"\n{") else [content]
        at = self.rng.randrange(len(lines))
        try:
            lines[at] = json.dumps(self._replaced(json.loads(lines[at]))).encode()
        except (ValueError, RecursionError):
            return content
        return b"\n".join(lines)

    def _replaced(self, value: Any) -> Any:
        if not isinstance(value, dict | list) or not value or self.rng.random() < 0.15:
            return self.rng.choice(ODD_VALUES)
        key = self.rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
        what = self.rng.random()
        if what < 0.08:
            del value[key]
        elif what < 0.14 and isinstance(value, list):
            value.append(value[key])
        else:
            value[key] = self._replaced(value[key])
        return value


@pytest.fixture
def fast_folder() -> Iterator[Path]:
    """In memory where there is such a place: 10,000 files are written."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))
    yield folder
    shutil.rmtree(folder)


def sound(sample: Sample) -> bool:
    """A label and a box inside the picture, or neither."""
    if sample.label is None or sample.box is None:
        return sample.label is None and sample.box is None
    (width, height), box = sample.image_size, sample.box
    inside = 0 <= box.x_min < box.x_max <= width and 0 <= box.y_min < box.y_max <= height
    return bool(sample.label) and inside and all(type(v) is float and math.isfinite(v) for v in box.xyxy)


def read_again(row: Layout, tree: Tree, pictures: Pictures, files: list[str]) -> str:
    """What `load_dataset` does, without listing the folder again; what came of it, in a word."""
    tree = Tree(tree.root, tree.files)  # it remembers the beginnings of files
    pictures.tree = tree
    try:
        found = row.detect(tree)
        reading = row.read(tree, found or files, pictures, DEFAULT_OPTIONS)
        made = assemble(reading, pictures, multiple="largest")
    except OneboxError as error:
        return "refused" if "\n" not in str(error) else "a message of several lines"
    for sample in made.samples:
        assert sound(sample), sample
    for told in (*made.skipped, *made.remarks, *reading.remarks):
        assert "\n" not in str(told)
        assert told.reason
    if not any(sample.label for sample in made.samples):
        return "nothing left"
    return "left out" if made.skipped else "read"


@pytest.mark.slow
@pytest.mark.parametrize("row", LAYOUTS, ids=lambda row: row.name)
def test_mutated_annotations(row: Layout, fast_folder: Path) -> None:
    root = make_set(row.name, fast_folder)
    tree = scan(str(root))
    pictures = Pictures(tree)
    files = row.detect(tree)
    assert read_again(row, tree, pictures, files) in {"read", "left out"}
    originals = {f: (root / f).read_bytes() for f in tree.files if not is_picture(f)}
    outcomes: Counter[str] = Counter()
    mutator = Mutator(originals, seed=2026)
    for number in range(FILES_PER_LAYOUT):
        name, content = mutator.change()
        (root / name).write_bytes(content)
        try:
            outcomes[read_again(row, tree, pictures, files)] += 1
        except Exception as error:
            pytest.fail(f"file {number}: {type(error).__name__}: {error}\n{name}: {content[:2000]!r}")
        (root / name).write_bytes(originals[name])
    # neither so wild that nothing but the parser's first check is tested, nor so tame that nothing is
    assert outcomes["read"] + outcomes["left out"] > FILES_PER_LAYOUT / 20, outcomes
    assert outcomes["a message of several lines"] == 0
    assert outcomes["read"] < FILES_PER_LAYOUT * 0.95, outcomes


# ---- XML


DOCTYPES = {
    "entity": '<!DOCTYPE annotation [<!ENTITY x SYSTEM "file:///etc/hostname">]>',
    "laughs": '<!DOCTYPE annotation [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY x "&b;&b;&b;&b;">]>',
    "parameter": '<!DOCTYPE annotation [<!ENTITY % p SYSTEM "http://127.0.0.1:9/x.dtd"> %p;]>',
    "external": '<!DOCTYPE annotation SYSTEM "http://127.0.0.1:9/x.dtd">',
    "public": '<!DOCTYPE annotation PUBLIC "-//X//X//EN" "http://127.0.0.1:9/x.dtd">',
    "plain": "<!DOCTYPE annotation>",
}


def with_doctype(path: Path, doctype: str, entity: bool) -> None:
    content = path.read_text()
    head, _, rest = content.rpartition("?>")
    if entity:
        rest = rest.replace(">cat<", ">&x;<").replace('"cat"', '"&x;"')
    path.write_text(f"{head}{'?>' if head else ''}{doctype}{rest}")


@pytest.mark.parametrize("kind", DOCTYPES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("layout", ["voc", "cvat", "imagenet", "oxford_pets"])
def test_any_doctype_is_refused(layout: str, kind: str, encoding: str, tmp_path: Path) -> None:
    root = make_set(layout, tmp_path)
    xmls = sorted(root.rglob("*.xml"))
    for path in xmls:
        with_doctype(path, DOCTYPES[kind], entity=kind in {"entity", "laughs"})
        path.write_bytes(path.read_text().encode(encoding))
    try:
        data = load_dataset(root, layout=layout)
    except OneboxError as error:
        told, labels = str(error), set[str | None]()
    else:
        told, labels = " ".join(map(str, data.skipped)), {s.label for s in data}
    if layout in {"voc", "cvat"}:  # of the others the class stands in a table
        assert labels <= {None}
    if encoding == "utf-8":
        assert told.count("a DOCTYPE is not allowed") == (1 if layout in {"cvat", "oxford_pets"} else len(xmls))
    assert "haha" not in told
    assert not any(label and "ha" in label for label in labels)


def test_elements_nested_without_end_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    put_voc(tmp_path / "b.xml", "a.jpg")
    text(tmp_path / "a.xml", "<annotation>" + "<x>" * 200_000)
    data = load_dataset(tmp_path)
    assert ["nested more than 64 deep" in s.reason for s in data.skipped] == [True]


# ---- JSON


def with_coco(root: Path, **changed: str) -> Path:
    """A COCO file in which `KEY` of the annotation is written as told, raw."""
    fields = {"id": "1", "image_id": "1", "category_id": "7", "bbox": "[10, 20, 30, 40]", **changed}
    annotation = ", ".join(f'"{key}": {value}' for key, value in fields.items())
    picture(root / "a.jpg")
    picture(root / "b.jpg")
    return text(
        root / "a.json",
        '{"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],\n'
        '"categories": [{"id": 7, "name": "cat"}],\n'
        f'"annotations": [{{{annotation}}},\n{{"image_id": 2, "category_id": 7, "bbox": [1, 2, 30, 40]}}]}}',
    )


@pytest.mark.parametrize("layout", ["coco", "createml", "labelstudio", "via", "labelme", "onebox", "huggingface"])
@pytest.mark.parametrize(
    "content",
    ["[" * 100_000, '{"images":' * 100_000, '[{"image":' + "[" * 100_000, "[" * 100_000 + "]" * 100_000],
    ids=["lists", "objects", "inside", "closed"],
)
def test_depth_is_limited(layout: str, content: str, tmp_path: Path) -> None:
    root = make_set(layout, tmp_path)
    for path in (p for p in root.rglob("*.json*")):
        path.write_text(content)
        with pytest.raises(OneboxError) as caught:
            load_dataset(path, layout=layout)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["id", "image_id", "category_id", "bbox", "area", "unknown"])
def test_numbers_of_thousands_of_digits_are_refused(key: str, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="a number is too long"):
        load_dataset(with_coco(tmp_path, **{key: "9" * 5000}))


@pytest.mark.parametrize(
    "box",
    [
        *("[NaN, 1, 2, 3]", "[1, 2, Infinity, 4]", "[1, -Infinity, 3, 4]", "[1e999, 1, 1, 1]", "[1, 2, 1e400, 4]"),
        *("[1e308, 1e308, 1e308, 1e308]", "[-1e308, 1, 1e308, 1e308]", "[1, 2, 3]", "[1, 2, 3, 4, 5]", "[]", "{}"),
        *('["1", "2", "x", "4"]', "[true, true, true, true]", "[null, 1, 2, 3]", "[[1], 2, 3, 4]", '"1,2,3,4"', "7"),
        f"[1, 2, {'9' * 400}, 4]",
    ],
)  # fmt: skip
def test_no_such_box_gets_through(box: str, tmp_path: Path) -> None:
    data = load_dataset(with_coco(tmp_path, bbox=box))
    assert [Path(s.path).name for s in data.labelled] == ["b.jpg"]
    (told,) = data.skipped
    assert (told.code, told.where) == ("bad-box", f"{tmp_path / 'a.json'}:3")


def test_keys_that_stand_twice(tmp_path: Path) -> None:
    """Of a list that stands twice one would be lost: refused. Of a field, the later word counts, as in any JSON."""
    path = with_coco(tmp_path, category_id='9, "category_id": 7')
    assert len(load_dataset(path).labelled) == 2
    path.write_text(path.read_text()[:-1] + ', "images": []}')
    with pytest.raises(AnnotationError, match="holds 'images' twice"):
        load_dataset(path)


def test_ids_and_names_with_lone_surrogates_and_control_characters(tmp_path: Path) -> None:
    path = with_coco(tmp_path, image_id=r'"\ud800"', category_id=r'"\u0000"')
    content = path.read_text().replace('"id": 1, "file_name": "a.jpg"', r'"id": "\ud800", "file_name": "a.jpg"')
    path.write_text(content.replace('"id": 7, "name": "cat"', r'"id": "\u0000", "name": "c\ud800a\u0007t"'))
    data = load_dataset(path)
    assert [s.label for s in data] == ["c?a t"]
    assert [(Path(s.path).name, s.code) for s in data.skipped] == [("b.jpg", "no-class")]


def test_file_size_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = with_coco(tmp_path)
    monkeypatch.setattr("onebox.formats.json_files._LARGEST_FILE", 100)
    with pytest.raises(AnnotationError, match="too large"):
        load_dataset(path)
