"""What makes large data sets cheap changes nothing: JSON read piece by piece is JSON read as a whole, names found on
the short way are those found on the long one; and a loaded picture costs little memory."""

from __future__ import annotations

import gc
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from benchmarks.loading import make_coco, make_pictures, own_strings
from onebox.dataset import load_dataset
from onebox.errors import AnnotationError
from onebox.formats.json_files import JsonPull, parse_json, pull_json
from onebox.formats.pictures import Pictures
from onebox.formats.records import Problem
from onebox.formats.tree import Tree, scan
from tests.small_sets import text

# ---- JSON


def pulled(content: str, lists: tuple[str, ...]) -> tuple[dict[str, Any], list[int]]:
    """The document put together again from its pieces, and the lines of the records."""
    file = JsonPull("a.json", content)
    out: dict[str, Any] = {}
    lines: list[int] = []
    for key in file.keys():  # noqa: SIM118 - no dictionary
        if key in lists:
            records = list(file.records())
            out[key] = [record for record, _ in records]
            lines += [line for _, line in records]
        else:
            out[key] = file.value()
    return out, lines


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(
    st.sampled_from(["images", "annotations", "info", "", 'a"b']),
    st.lists(st.dictionaries(st.text(max_size=3), values, max_size=3) | values, max_size=5) | values,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents, st.sampled_from([None, 0, 2]), st.sampled_from([(",", ":"), (", ", ": "), (" ,\r\n", "\t:\n ")]))
def test_pieces_make_the_whole(document: dict[str, Any], indent: int | None, marks: tuple[str, str]) -> None:
    content = json.dumps(document, indent=indent, separators=marks)
    found, lines = pulled(content, ("images", "annotations"))
    expected = dict(document)
    for key in ("images", "annotations"):
        if key in expected:
            value = expected[key]
            expected[key] = [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []
    assert found == expected
    texts = content.split("\n")
    assert all("{" in texts[line - 1] for line in lines)
    assert lines == sorted(lines) or list(document) != sorted(document)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents, st.data())
def test_damaged_texts_are_refused_by_both_or_by_none(document: dict[str, Any], data: st.DataObject) -> None:
    content = json.dumps(document, indent=1)
    at = data.draw(st.integers(0, len(content)))
    change = data.draw(st.sampled_from(["", "{", "}", "[", "]", ",", ":", '"', "\\", "1", "x", " ", "\n", "\ufeff"]))
    damaged = content[:at] + change + content[at + data.draw(st.integers(0, 2)) :]

    def refused(read: Any) -> str:
        try:
            read()
        except AnnotationError as error:
            return str(error)
        return ""

    whole = refused(lambda: parse_json(damaged, "a.json"))
    assert refused(lambda: pulled(damaged, ("images", "annotations"))) == whole


def test_what_nobody_asks_for_is_read_over_and_still_checked() -> None:
    assert list(JsonPull("a", '{"a": [1, {"b": 2}], "c": "d"}').keys()) == ["a", "c"]
    assert list(JsonPull("a", " [1, 2] ").keys()) == []
    for content in ('{"a": [1, }', "[1, 2", '{"a": 1} x', ""):
        with pytest.raises(AnnotationError, match="not valid JSON"):
            list(JsonPull("a", content).keys())


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    path = text(tmp_path / "a.json", '\ufeff{"x": "\\n",\r\n "images": [{"a":\n1},\n\n{"b": 2}]}')
    file = pull_json(scan(str(tmp_path)), path.name)
    found = [line for key in file.keys() if key == "images" for _, line in file.records()]  # noqa: SIM118
    assert found == [2, 5]


# ---- names

words = st.sampled_from(["a", "b", "A", "images", "train", "val", "cat", "x.jpg", "y.jpg", "X.JPG", "é.jpg", "z.png"])
names = st.lists(words, min_size=1, max_size=3).map("/".join)


@settings(max_examples=500, deadline=None)
@given(
    st.lists(names, min_size=1, max_size=8, unique=True),
    st.lists(
        names | st.sampled_from(["", "/", "../x.jpg", "x", "./x.jpg", "a\\x.jpg", " x.jpg", "c:x.jpg"]), min_size=1
    ),
    st.sampled_from(["", "a", "images"]),
    st.sampled_from([None, "cat", "b", "dog"]),
    st.sampled_from([None, "train", "val"]),
)
def test_the_short_way_finds_what_the_long_one_finds(
    paths: list[str], wanted: list[str], near: str, label: str | None, part: str | None
) -> None:
    files = [path for path in paths if path.lower().endswith((".jpg", ".png"))]
    assume(files)
    short, long = (Pictures(Tree("root", tuple(sorted(files)))) for _ in range(2))
    long._plain = False
    for name in wanted:
        options: dict[str, Any] = {"near": near, "label": label, "part": part}
        assert short.find(name, **options) == long.find(name, **options)


def test_a_file_whose_name_is_like_a_way_out_is_not_found_by_it(tmp_path: Path) -> None:
    for odd in ("c:x.jpg", "a\\b.jpg", "line\nbreak.jpg"):
        pictures = Pictures(Tree("root", (odd, "good.jpg")))
        assert isinstance(pictures.find(odd, near=""), Problem)
        assert pictures.find("good.jpg", near="") == "good.jpg"


# ---- memory


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO file of 12,000 pictures, made as the benchmark makes it."""
    root = tmp_path_factory.mktemp("many") / "set"
    listed = make_pictures(root / "images", 12_000)
    return make_coco(root / "annotations.json", listed, 12_000, shuffled=True)


def test_a_loaded_picture_costs_at_most_600_bytes_beyond_its_strings(many: Path) -> None:
    load_dataset(many)  # modules and caches
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        data = load_dataset(many)
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(data.labelled) == 12_000
    assert not data.skipped
    own = after - before - own_strings(data)
    assert own / len(data) <= 600
    assert {id(s.label) for s in data} == {id(name) for name in data.class_names}, "one string for each class"


def test_loading_leaves_the_collector_as_it_was(many: Path, tmp_path: Path) -> None:
    for path in (many, text(tmp_path / "a.json", "{")):
        for enabled in (True, False):
            (gc.enable if enabled else gc.disable)()
            try:
                load_dataset(path)
            except AnnotationError:
                assert path != many
            finally:
                was = gc.isenabled()
                gc.enable()
            assert was is enabled


def test_links_to_one_file_are_different_pictures(many: Path) -> None:
    data = load_dataset(many)
    assert len({s.path for s in data}) == len(data)
    assert len({Path(s.path).stat().st_ino for s in data}) == 64
