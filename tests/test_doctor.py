"""The doctor: findings with their codes and places, counts, JSON values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebox.dataset import load_dataset
from onebox.doctor import CODES, LEVELS, check
from onebox.errors import OneboxError
from onebox.formats import records
from tests.small_sets import jpeg, picture, text, varied_table


def test_every_kind_of_finding_has_its_code_and_place(tmp_path: Path) -> None:
    rows = [f"cat{i}.jpg,cat,1,1,9,9" for i in range(6)]
    rows += [
        "dog.jpg,dog,1,1,9,9",
        "two.jpg,cat,1,1,9,9",
        "two.jpg,cat,1,1,50,50",
        "bad.jpg,cat,9,1,1,9",
        "over.jpg,cat,50,50,110,79",
        "gone.jpg,cat,1,1,9,9",
        "../up.jpg,cat,1,1,9,9",
        "cut.jpg,cat,1,1,9,9",
    ]
    varied_table(tmp_path / "set", rows)
    (tmp_path / "set" / "gone.jpg").unlink()
    whole = jpeg(400, 300)
    (tmp_path / "set" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    picture(tmp_path / "set" / "nothing.jpg")
    told: list[tuple[int, int]] = []
    result = check(tmp_path / "set", progress=lambda done, total: told.append((done, total)))
    assert result.counts() == {
        "clipped-box": 1,
        "inverted-box": 1,
        "missing-picture": 1,
        "refused-name": 1,
        "several-objects": 1,
        "tiny-class": 1,
        "truncated-picture": 1,
        "unlabelled": 1,
    }
    by_code = {finding.code: finding for finding in result.findings}
    assert by_code["inverted-box"].line == 11
    assert Path(by_code["inverted-box"].file or "").name == "a.csv"
    assert by_code["several-objects"].line == 10
    assert (by_code["tiny-class"].picture, by_code["tiny-class"].line) == (None, 8)
    assert Path(by_code["truncated-picture"].picture or "").name == "cut.jpg"
    # 11 samples (cut.jpg has a sound header) and three pictures left out
    assert (result.pictures, result.usable) == (14, 9)
    # bad.jpg is looked at too, though its box is of no use
    assert told == [(i + 1, 12) for i in range(12)]


def test_errors_come_first(tmp_path: Path) -> None:
    varied_table(tmp_path, [*(f"cat{i}.jpg,cat,1,1,9,9" for i in range(5)), "dog.jpg,dog,9,9,1,1", "e.jpg,dog,1,1,9,9"])
    assert list(check(tmp_path).by_code()) == ["inverted-box", "tiny-class"]


def test_to_dict_is_plain_json(tmp_path: Path) -> None:
    varied_table(tmp_path, ["a.jpg,cat,1,1,9,9", "b.jpg,dog,1,1,9,9", *(f"c{i}.jpg,dog,1,1,9,9" for i in range(4))])
    plain = json.loads(json.dumps(check(load_dataset(tmp_path)).to_dict()))
    assert set(plain) == {"layout", "pictures", "usable", "classes", "findings"}
    assert plain["classes"] == {"cat": 1, "dog": 5}
    assert plain["findings"] == [
        {
            "code": "tiny-class",
            "picture": None,
            "file": str(tmp_path / "a.csv"),
            "line": 2,
            "message": "class 'cat' has 1 labelled picture",
            "confidence": 1.0,
        }
    ]


def test_every_code_is_explained_in_one_sentence() -> None:
    for code, kind in CODES.items():
        assert code == code.lower()
        assert kind.level in LEVELS
        assert kind.meaning.endswith(".")
        assert "\n" not in kind.meaning


def test_a_code_that_onebox_can_give_is_in_the_table() -> None:
    codes = {value for name, value in vars(records).items() if name.isupper() and isinstance(value, str)}
    assert codes <= CODES.keys()


def test_a_loaded_set_is_examined_as_it_was_loaded(tmp_path: Path) -> None:
    rows = [f"cat{i}.jpg,cat,1,1,9,9" for i in range(6)] + ["two.jpg,cat,1,1,9,9", "two.jpg,cat,1,1,50,50"]
    varied_table(tmp_path, [*rows, "bad.jpg,cat,5,5,5,9"])
    result = check(load_dataset(tmp_path, multiple="largest"))
    # what was left out keeps the code of the loading: the file itself is not read again
    assert result.counts() == {"bad-box": 1, "one-class": 1, "several-objects": 1}
    assert (result.pictures, result.usable) == (8, 7)


cells = st.sampled_from(
    ["", "nan", "inf", "-1", "0", "0.5", "1", "9", "40", "100", "1e9", "cat", "Cat ", "..", "a.jpg"]
)
rows_of_cells = st.lists(
    st.tuples(st.sampled_from(["a.jpg", "b.jpg", "c.jpg", "../a.jpg", ""]), *[cells] * 5), max_size=8
)


@settings(max_examples=50)
@given(rows=rows_of_cells)
def test_any_table_is_examined_or_explained(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    for name in ("a.jpg", "b.jpg", "d.jpg"):
        picture(folder / name)
    text(folder / "a.csv", "\n".join(["filename,class,xmin,ymin,xmax,ymax", *map(",".join, rows), ""]))
    try:
        result = check(folder)
    except OneboxError:  # nothing usable: the readers' tests say how that is told
        return
    assert result.usable <= result.pictures
    for finding in result.findings:
        assert finding.code in CODES
        assert "\n" not in finding.message
    json.dumps(result.to_dict(), allow_nan=False)
