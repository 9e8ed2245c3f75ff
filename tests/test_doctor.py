"""The doctor: findings with their codes and places, counts, JSON values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onebox.dataset import load_dataset
from onebox.doctor import check
from tests.small_sets import jpeg, picture, table


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
    table(tmp_path / "set", rows)
    (tmp_path / "set" / "gone.jpg").unlink()
    whole = jpeg(400, 300)
    (tmp_path / "set" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    picture(tmp_path / "set" / "nothing.jpg")
    told: list[tuple[int, int]] = []
    result = check(tmp_path / "set", progress=lambda done, total: told.append((done, total)))
    assert result.counts() == {
        "bad-box": 1,
        "clipped-box": 1,
        "missing-picture": 1,
        "refused-name": 1,
        "several-objects": 1,
        "tiny-class": 1,
        "unlabelled": 1,
        "unreadable-picture": 1,
    }
    by_code = {finding.code: finding for finding in result.findings}
    assert by_code["bad-box"].line == 11
    assert Path(by_code["bad-box"].file or "").name == "a.csv"
    assert by_code["several-objects"].line == 10
    assert by_code["tiny-class"].picture is None
    assert Path(by_code["unreadable-picture"].picture or "").name == "cut.jpg"
    # 11 samples (cut.jpg has a sound header) and three pictures left out
    assert (result.pictures, result.usable) == (14, 9)
    assert told == [(i + 1, 11) for i in range(11)]


def test_to_dict_is_plain_json(tmp_path: Path) -> None:
    table(tmp_path, ["a.jpg,cat,1,1,9,9"])
    plain = json.loads(json.dumps(check(load_dataset(tmp_path)).to_dict()))
    assert set(plain) == {"layout", "pictures", "usable", "classes", "findings"}
    assert plain["classes"] == {"cat": 1}
    assert plain["findings"] == [
        {
            "code": "tiny-class",
            "picture": None,
            "file": None,
            "line": None,
            "message": "class 'cat' has 1 labelled picture",
            "confidence": 1.0,
        }
    ]


@pytest.mark.real
def test_real_set_with_known_findings(real_data: Path) -> None:
    result = check(real_data / "caltech3_csv")
    assert result.counts() == {"bad-box": 1}
    assert (result.pictures, result.usable) == (514, 513)


@pytest.mark.real
def test_several_objects_in_raccoon(real_data: Path) -> None:
    assert check(real_data / "raccoon").counts() == {"several-objects": 16}
