"""A model against labelled pictures, end to end with a stand-in that really looks at the pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onebox.dataset import Dataset
from onebox.errors import DataError
from onebox.evaluation import evaluate, judge
from onebox.images import Pixels
from onebox.manifest import Manifest
from onebox.runtime import Localizer, Outputs
from onebox.types import Box, ImageSize, Sample

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class Looker(Localizer):
    """Boxes whatever is not black and names it by its colour channel; exact on the pictures below."""

    def __init__(self, baseline: dict[str, object] | None = None) -> None:
        self.manifest = Manifest(
            class_names=tuple(COLOURS),
            imgsz=64,
            backbone="none",
            recipe="none",
            box_head="none",
            onebox_version="0",
            baseline=baseline or {},
            data={},
        )

    def run(self, pictures: Pixels) -> Outputs:
        logits, boxes = [], []
        for picture in pictures:
            rows, columns = np.nonzero(picture.max(axis=2) > 127)
            boxes.append(np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / len(picture))
            logits.append(picture.astype(float).mean(axis=(0, 1)))
        sigmas = np.full((len(pictures), 4), 0.01, dtype=np.float32)
        return {"logits": np.float32(logits), "boxes_01": np.float32(boxes), "sigmas_01": sigmas}


def make(folder: Path, name: str, label: str | None, box: tuple[int, int, int, int], colour: str = "") -> Sample:
    """A 128x96 picture with one rectangle; `colour` where it differs from what the label says."""
    image = Image.new("RGB", (128, 96))
    image.paste(COLOURS[colour or label or "red"], box)
    path = folder / name
    image.save(path)
    size = ImageSize(128, 96)
    return Sample(str(path), size, label, Box(*box, image_size=size) if label else None, where=f"labels.csv:{name}")


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Three right, one misnamed, one without a label."""
    samples = (
        make(tmp_path, "a.png", "red", (8, 12, 64, 60)),
        make(tmp_path, "b.png", "green", (40, 30, 120, 90)),
        make(tmp_path, "c.png", "blue", (0, 0, 128, 96)),
        make(tmp_path, "d.png", "blue", (20, 30, 60, 72), colour="red"),
        make(tmp_path, "e.png", None, (20, 30, 60, 72)),
    )
    return Dataset(samples, tuple(COLOURS), "test", str(tmp_path))


def test_judging_end_to_end(data: Dataset) -> None:
    seen: list[tuple[int, int]] = []
    baseline = {"label": "blue", "box_01": [0, 0, 1, 1]}
    result = judge(Looker(baseline), data, progress=lambda done, total: seen.append((done, total)))
    m = result.metrics
    assert (m.n, m.top1, m.unreadable, m.unlabelled, result.unlabelled) == (4, 0.75, 0, 1, 1)
    assert m.mean_iou > 0.9
    assert m.joint_50 == 0.75 == np.mean([r.right for r in result.records])
    assert m.baseline["top1"] == 0.5
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [Path(r.path).name for r in result.records] == ["a.png", "b.png", "c.png", "d.png"]
    assert m.mean_iou == pytest.approx(np.mean([r.iou for r in result.records]))
    wrong = result.records[3]
    assert (wrong.label, wrong.prediction.label, wrong.class_right, wrong.right) == ("blue", "red", False, False)
    assert wrong.quality < 0.01 < result.records[2].quality <= 1
    assert evaluate(Looker(baseline), data) == m
    assert "left out: 1 without a label" in str(m)


def test_unreadable_pictures_are_counted_and_listed(data: Dataset) -> None:
    Path(data[1].path).write_bytes(b"not a picture")
    Path(data[2].path).unlink()
    result = judge(Looker(), data)
    assert result.metrics.n == 2
    assert result.metrics.unreadable == 2 == len(result.unreadable)
    assert result.unreadable[0] == (data[1].path, "cannot read this picture (not a picture, or a damaged one)")
    assert result.unreadable[1] == (data[2].path, "no such file")
    assert "2 could not be read" in str(result.metrics)
    assert result.metrics.to_dict()["unreadable"] == 2


def test_no_readable_picture_at_all(data: Dataset) -> None:
    for sample in data:
        Path(sample.path).unlink()
    with pytest.raises(DataError, match="none of the 4 labelled pictures could be read"):
        evaluate(Looker(), data)


def test_no_labelled_picture(data: Dataset) -> None:
    with pytest.raises(DataError, match="none of the 1 pictures has a label"):
        evaluate(Looker(), data.subset([4]))


def test_a_class_the_model_does_not_know_is_named(data: Dataset, tmp_path: Path) -> None:
    odd = make(tmp_path, "z.png", "red", (1, 1, 9, 9))
    odd = Sample(odd.path, odd.image_size, "yellow", odd.box, "labels.csv:7")
    mixed = Dataset((*data.samples, odd), (*COLOURS, "yellow"), "test", str(tmp_path))
    with pytest.raises(DataError, match=r"labels.csv:7: the class 'yellow' is unknown.*red, green, blue"):
        evaluate(Looker(), mixed)


def test_unused_classes_of_the_data_do_no_harm(data: Dataset) -> None:
    more = Dataset(data.samples, (*COLOURS, "never used"), "test", data.root)
    assert evaluate(Looker(), more).n == 4


def test_labels_made_on_a_resized_copy_still_fit(data: Dataset) -> None:
    half = ImageSize(64, 48)
    sample = data[0]
    assert sample.box is not None
    small = Box(*(v / 2 for v in sample.box.xyxy), image_size=half)
    resized = Dataset((Sample(sample.path, half, "red", small),), tuple(COLOURS), "test", data.root)
    assert judge(Looker(), resized).records[0].iou == pytest.approx(judge(Looker(), data).records[0].iou)
