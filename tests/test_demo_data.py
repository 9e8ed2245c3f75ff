"""The built-in demo set: the same bytes every time, boxes that are exactly the object's, no two pictures alike."""

from __future__ import annotations

import csv
import multiprocessing
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onebox.demo_data import CLASS_NAMES, Difficulty, compose_scene, draw_scene, write_demo_data
from onebox.demo_data.objects import SUPERSAMPLE, box_blur, make_palette, make_pose, project, rasterize
from onebox.demo_data.scenes import tight_box
from onebox.demo_data.shapes import SHAPES
from onebox.errors import ConfigError, DataError, RunFolderError

SMALL = (96, 140)


def _digest(seed: int, index: int, name: str = "mug") -> bytes:
    return draw_scene(seed, index, name, size=SMALL)[0].tobytes()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo_data(tmp_path_factory.mktemp("demo") / "data", count=64, seed=5, size=SMALL)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_picture_depends_on_seed_and_index_alone() -> None:
    first = _digest(3, 8)
    _digest(3, 9)  # another picture in between changes nothing
    assert _digest(3, 8) == first
    assert _digest(3, 9) != first
    assert _digest(4, 8) != first


def test_only_the_object_differs_between_classes_of_one_index() -> None:
    # Same ground, size and camera: whatever tells the class must be the object.
    plain = Difficulty(distractors=0, noise=0, blur=0)
    a, b = (compose_scene(1, 2, name, size=SMALL, difficulty=plain) for name in ("fish", "scissors"))
    assert a.image.size == b.image.size
    far = box_blur((a.mask | b.mask).astype(np.float32), 30) == 0
    if far.any():
        difference = np.abs(np.asarray(a.image, np.int16) - np.asarray(b.image, np.int16))[far]
        assert np.median(difference) <= 2


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_boxes_are_inside_positive_and_tight(name: str) -> None:
    for index in range(6):
        scene = compose_scene(7, index, name, size=SMALL)
        width, height = scene.image.size
        x0, y0, x1, y1 = scene.box
        assert scene.image.mode == "RGB"
        assert scene.mask.shape == (height, width)
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
        inside = scene.mask[int(y0) : int(y1), int(x0) : int(x1)]
        assert inside.sum() == scene.mask.sum()  # nothing outside the box
        assert inside[0].any()  # and every side of it is touched
        assert inside[-1].any()
        assert inside[:, 0].any()
        assert inside[:, -1].any()
        longest = max(x1 - x0, y1 - y0) / min(width, height)
        assert Difficulty().min_scale * 0.85 - 0.04 <= longest <= Difficulty().max_scale + 0.04


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_the_rendered_mask_is_the_polygons_mask(name: str) -> None:
    """An independent way to the box: the corners of the visible polygons, without any drawing."""
    rng = np.random.default_rng(11)
    parts = SHAPES[name](rng)
    pose = make_pose(rng, parts, 100.0, 180.0)
    coverage = rasterize(parts, pose, make_palette(rng))[1]
    corners = np.concatenate([project(pose.matrix, p.points) for p in parts if p.role != "hole"])
    expected = [*corners.min(axis=0), *corners.max(axis=0)]
    # Thin tips cover less than half of their last pixels, hence two pixels of play.
    np.testing.assert_allclose(tight_box(coverage > 0.5), expected, atol=2.0 + 1 / SUPERSAMPLE)
    assert max(pose.width, pose.height) == pytest.approx(102, abs=1)


def test_holes_show_the_ground() -> None:
    rng = np.random.default_rng(0)
    for name in ("key", "scissors", "mug"):
        parts = SHAPES[name](rng)
        pose = make_pose(rng, parts, 150.0, 0.0)
        solid = rasterize(parts, pose, make_palette(rng))[1] > 0.5
        # Ground that cannot be reached from the border is in a hole.
        reached = np.pad(~solid, 1, constant_values=True)
        seen = np.zeros_like(reached)
        seen[0, 0] = True
        while True:
            grown = reached & (box_blur(seen.astype(np.float32), 1) > 0)
            if (grown == seen).all():
                break
            seen = grown
        assert (reached & ~seen).sum() > 30, name


def test_objects_stand_off_the_ground() -> None:
    close = 0
    for index in range(40):
        scene = compose_scene(2, index, CLASS_NAMES[index % 8], size=SMALL)
        pixels = np.asarray(scene.image, np.float64) / 255
        ring = (box_blur(scene.mask.astype(np.float32), 5) > 0) & ~scene.mask
        close += float(np.linalg.norm(pixels[scene.mask].mean(0) - pixels[ring].mean(0))) < 0.1
    assert close <= 4


def test_difficulty_reaches_the_picture() -> None:
    easy = Difficulty(clutter=0, distractors=0, noise=0, blur=0, min_scale=0.5, max_scale=0.5, rotation=0, truncated=0)
    scene = compose_scene(0, 0, "mug", size=SMALL, difficulty=easy)
    x0, y0, x1, y1 = scene.box
    assert max(x1 - x0, y1 - y0) == pytest.approx(0.5 * min(scene.image.size), abs=2)
    cut = compose_scene(0, 0, "mug", size=SMALL, difficulty=Difficulty(truncated=1))
    width, height = cut.image.size
    assert cut.box[0] == 0 or cut.box[1] == 0 or cut.box[2] == width or cut.box[3] == height


def test_the_folder_holds_what_it_says(written: Path) -> None:
    assert sorted(p.name for p in written.iterdir()) == ["images", "test.csv", "train.csv"]
    assert not [p for p in written.parent.iterdir() if p.name.endswith(".part")]
    train, test = _rows(written / "train.csv"), _rows(written / "test.csv")
    assert len(train) == 52
    assert len(test) == 12
    assert list(train[0]) == ["filename", "class", "xmin", "ymin", "xmax", "ymax"]
    for part in (train, test):
        counts = Counter(r["class"] for r in part)
        assert set(counts) == set(CLASS_NAMES)
        assert max(counts.values()) - min(counts.values()) <= 1
    names = [r["filename"] for r in train + test]
    assert len(set(names)) == 64
    for index, row in enumerate(train + test):
        picture, box = draw_scene(5, index, row["class"], size=SMALL)
        assert [float(row[k]) for k in ("xmin", "ymin", "xmax", "ymax")] == [round(v, 2) for v in box]
        with Image.open(written / row["filename"]) as opened:
            assert opened.format == "JPEG"
            assert opened.size == picture.size


@pytest.mark.parametrize("processes", [1, 2])
def test_the_same_call_gives_the_same_bytes(written: Path, tmp_path: Path, processes: int) -> None:
    again = write_demo_data(tmp_path / "deep" / "again", count=64, seed=5, size=SMALL, processes=processes)
    for path in sorted(p for p in written.rglob("*") if p.is_file()):
        assert path.read_bytes() == (again / path.relative_to(written)).read_bytes(), path.name


def test_no_two_pictures_are_alike(written: Path) -> None:
    thumbs = []
    for path in sorted((written / "images").iterdir()):
        with Image.open(path) as opened:
            grey = np.asarray(opened.convert("L").resize((16, 16)), np.float64).ravel()
        thumbs.append((grey - grey.mean()) / grey.std())
    likeness = np.corrcoef(np.stack(thumbs)) - np.eye(len(thumbs))
    assert likeness.max() < 0.97


def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_demo_data(tmp_path / "d", count=16, size=(64, 80), progress=lambda done, count: seen.append((done, count)))
    assert seen == [(i + 1, 16) for i in range(16)]


def test_an_empty_folder_is_filled_and_a_full_one_refused(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    write_demo_data(folder, count=16, size=(64, 80))
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(RunFolderError, match="holds something already"):
        write_demo_data(folder, count=16, seed=1, size=(64, 80))
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("processes", [1, 2])
def test_a_stop_half_way_leaves_nothing_behind(tmp_path: Path, processes: int) -> None:
    def stop(done: int, count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_demo_data(tmp_path / "d", count=16, size=(64, 80), processes=processes, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_is_said(tmp_path: Path) -> None:
    def kill(done: int, count: int) -> None:
        for process in multiprocessing.active_children():
            process.kill()

    with pytest.raises(DataError, match="one of the processes that draw pictures was killed"):
        write_demo_data(tmp_path / "d", count=200, size=(64, 80), processes=2, progress=kill)
    assert list(tmp_path.iterdir()) == []


def test_impossible_wishes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too few"):
        write_demo_data(tmp_path / "d", count=15)
    with pytest.raises(ConfigError, match="negative"):
        write_demo_data(tmp_path / "d", count=16, seed=-1)
    with pytest.raises(ConfigError, match="sizes"):
        write_demo_data(tmp_path / "d", count=16, size=(260, 160))
    with pytest.raises(ConfigError, match="unknown demo class 'teapot'"):
        draw_scene(0, 0, "teapot")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError):
        write_demo_data(tmp_path / "file", count=16)
    with pytest.raises(RunFolderError, match="cannot be written"):
        write_demo_data(tmp_path / "file" / "d", count=16)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_torch_is_not_needed() -> None:
    code = "import sys, onebox.demo_data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
