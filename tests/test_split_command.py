"""`onebox split`: what it writes, loaded again; groups by copies, expression and column; what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from onebox.dataset import load_dataset
from onebox.errors import ConfigError
from onebox.grouping import column_groups, find_groups
from tests.small_runs import here, untouched
from tests.small_sets import picture, text
from tests.test_likeness import SCENES, encoded


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """20 pictures of two classes: ten scenes, and a re-encoded copy of each under another name."""
    root = tmp_path / "photos"
    rows = ["filename,class,xmin,ymin,xmax,ymax,place"]
    (root / "pics").mkdir(parents=True)
    for i in range(10):
        SCENES[i].save(root / "pics" / f"{i}.png")
        encoded(SCENES[i], 85).save(root / "pics" / f"z{9 - i}.png")
        for name in (f"{i}", f"z{9 - i}"):
            rows.append(f"pics/{name}.png,{'cat' if i % 2 else 'dog'},20,20,120,100,{'river' if i < 5 else ''}")
    text(root / "labels.csv", "\n".join([*rows, ""]))
    return root


def scene_of(path: str) -> int:
    stem = Path(path).stem
    return 9 - int(stem[1:]) if stem.startswith("z") else int(stem)


@pytest.mark.parametrize("out", ["parts", "photos/split.jsonl"])
def test_parts_share_no_picture_and_load_again(photos: Path, tmp_path: Path, out: str) -> None:
    target = tmp_path / out
    done = here("split", photos, "--out", target, "--fractions", ".6,.2,.2", "--link")
    assert done.code == 0, done.err
    assert "20 pictures in 10 groups are copies of one picture" in done.out
    assert "train 12, val 4, test 4" in done.out
    assert "cat: 6 / 2 / 2" in done.out
    data = load_dataset(target)
    assert data.parts() == ("train", "val", "test")
    scenes = [{scene_of(s.path) for s in data.part(part)} for part in data.parts()]
    assert [len(some) for some in scenes] == [6, 2, 2]
    assert len(set.union(*scenes)) == 10
    original = {Path(s.path).name: (s.label, s.box) for s in load_dataset(photos / "labels.csv")}
    assert {Path(s.path).name: (s.label, s.box) for s in data} == original


def test_the_same_seed_gives_the_same_files(photos: Path, tmp_path: Path) -> None:
    with untouched(photos):
        for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
            assert here("split", photos, "--out", tmp_path / name, "--seed", seed).code == 0
    first, again, other = ((tmp_path / name / "val.csv").read_text() for name in "abc")
    assert first == again != other


def test_without_looking_copies_may_part(photos: Path, tmp_path: Path) -> None:
    done = here("split", photos, "--out", tmp_path / "parts", "--fractions", "0.5", "--no-copies")
    assert done.code == 0
    data = load_dataset(tmp_path / "parts")
    scenes = [{scene_of(s.path) for s in data.part(part)} for part in data.parts()]
    assert scenes[0] & scenes[1]


def test_groups_by_expression_and_column(photos: Path) -> None:
    data = load_dataset(photos)
    names = [Path(s.path).stem for s in data]
    places = column_groups(data, "place")
    assert {name for name, place in zip(names, places, strict=True) if place == "river"} == {
        *map(str, range(5)),
        *(f"z{i}" for i in range(5, 10)),
    }
    assert column_groups(data, "place", str(photos / "labels.csv")) == places
    found = find_groups(data, copies=False, pattern=r"(z)\d", column="place")
    # all that begin with z, and through them all of the river
    assert len(set(found.groups)) == 1 + 5
    assert "10 pictures in 1 group are alike in (z)\\d" in found.notes
    with pytest.raises(ConfigError, match=r"no table here has the column 'river'.*place"):
        column_groups(data, "river")
    with pytest.raises(ConfigError, match="not in the data set's folder"):
        column_groups(data, "place", str(photos.parent / "other.csv"))


def test_what_is_refused_says_why(photos: Path, tmp_path: Path) -> None:
    here("split", photos, "--out", tmp_path / "x.jsonl").says("names pictures below its own folder only")
    text(photos / "there.jsonl", "")
    here("split", photos / "labels.csv", "--out", photos / "there.jsonl").says("there already")
    here("split", photos, "--out", tmp_path / "x", "--fractions", ".8,.3").says("add up to 1")
    here("split", photos, "--out", tmp_path / "x", "--fractions", ".25,.25,.25,.25").says("two or three shares")
    here("split", photos, "--out", tmp_path / "x", "--fractions", "much").says("not a list of shares")
    here("split", photos, "--out", tmp_path / "x", "--group-regex", "(").says("not a regular expression")
    here("split", photos, "--out", photos / "inside").says("lies in the data set's")
    assert not (tmp_path / "x").exists()


def test_unreadable_pictures_are_no_copies(tmp_path: Path) -> None:
    text(tmp_path / "a.csv", "filename,class,xmin,ymin,xmax,ymax\na.jpg,x,1,1,9,9\nb.jpg,x,1,1,9,9\n")
    picture(tmp_path / "a.jpg")
    whole = picture(tmp_path / "b.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(whole[:-40])
    data = load_dataset(tmp_path)
    assert find_groups(data).groups == [0, 1]
