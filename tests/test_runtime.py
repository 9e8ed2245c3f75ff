"""Running a model: every kind of picture a caller may hold, in order, lazily, without torch."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import onebox
from onebox.errors import ModelError, PictureError
from onebox.images import Pixels
from onebox.manifest import Manifest
from onebox.predictions import Prediction
from onebox.runtime import BATCH, Localizer, OnnxLocalizer, Outputs, decode, softmax
from onebox.types import ImageSize
from tests.small_runs import BLOCKED, coloured_set, python


class Finder(Localizer):
    """Boxes what is bright; sure of "dark" or "bright" by the mean. Stands for a model that is always right."""

    def __init__(self, imgsz: int = 64) -> None:
        facts = {"backbone": "", "recipe": "", "box_head": "", "onebox_version": "0", "baseline": {}, "data": {}}
        self.manifest = Manifest(class_names=("dark", "bright"), imgsz=imgsz, **facts)
        self.batches: list[int] = []

    def run(self, pictures: Pixels) -> Outputs:
        self.batches.append(len(pictures))
        boxes, logits = [], []
        for picture in pictures:
            rows, columns = np.nonzero(picture.max(axis=2) > 127)
            corners = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if rows.size else (0, 0, 1, 1)
            boxes.append(np.array(corners) / len(picture))
            logits.append([0.0, picture.mean() / 32])
        return {
            "logits": np.float32(logits),
            "boxes_01": np.float32(boxes),
            "sigmas_01": np.full((len(pictures), 4), 0.25, dtype=np.float32),
        }


def bright(width: int, height: int, box: tuple[int, int, int, int]) -> Image.Image:
    image = Image.new("RGB", (width, height))
    image.paste((255, 255, 255), box)
    return image


def as_bytes(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.fixture(scope="module")
def model(tiny_run: Path) -> OnnxLocalizer:
    return onebox.load(tiny_run)


@pytest.fixture(scope="module")
def photo(tiny_set: Path) -> Path:
    return tiny_set.parent / "000.png"


# ---- what a caller may hold


def test_the_same_pixels_give_the_same_answer_however_they_are_given(model: OnnxLocalizer, photo: Path) -> None:
    with Image.open(photo) as opened:
        image = opened.copy()
    array = np.asarray(image)
    rgba = np.dstack([array, np.full(array.shape[:2], 255, np.uint8)])
    expected = model.predict(photo)[0]
    assert expected.path == str(photo)
    for source in (
        str(photo),
        photo.read_bytes(),
        image,
        array,
        array.astype(np.float32) / 255,
        array.astype(np.float64) / 255,
        array.astype(np.uint16) * 257,
        array[::-1][::-1],  # a view with its own strides
        rgba,
        Image.fromarray(rgba),
    ):
        answers = model.predict(source)
        assert len(answers) == 1
        np.testing.assert_array_equal(answers[0].probabilities, expected.probabilities)
        assert answers[0].box == expected.box
        assert answers[0].path == (str(photo) if isinstance(source, str) else None)


def test_grey_pictures(model: OnnxLocalizer, photo: Path) -> None:
    with Image.open(photo) as opened:
        grey = opened.convert("L")
    array = np.asarray(grey)
    expected = model.predict(grey.convert("RGB"))[0]
    for source in (grey, array, array[:, :, None], array.astype(np.uint16) * 257, np.float32(array) / 255):
        assert model.predict(source)[0].box == expected.box


def test_lists_tuples_iterators_and_batches_of_arrays(model: OnnxLocalizer, tiny_set: Path) -> None:
    paths = sorted(tiny_set.parent.glob("*.png"))[:5]
    one_by_one = [model.predict(path)[0].box.xyxy for path in paths]
    stack = np.stack([np.asarray(Image.open(path)) for path in paths])
    for sources in (paths, tuple(paths), iter(paths), (p for p in paths), map(str, paths), stack):
        boxes = [answer.box.xyxy for answer in model.predict(sources)]
        np.testing.assert_allclose(boxes, one_by_one, atol=1e-3)
    assert model.predict([]) == []
    assert list(model.stream(iter(()))) == []


def test_a_mixed_list_keeps_its_order() -> None:
    boxes = [(i, i, 20 + i, 30 + i) for i in range(0, 60, 2)]  # more than one batch
    sources: list[object] = []
    for i, box in enumerate(boxes):
        image = bright(128, 128, box)
        sources.append([image, np.asarray(image), as_bytes(image)][i % 3])
    answers = Finder(imgsz=128).predict(sources)  # type: ignore[arg-type]
    assert [tuple(round(v) for v in a.box.xyxy) for a in answers] == boxes


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (np.zeros((4, 4, 2), np.uint8), r"\(H, W, 3\).*colour axis"),
        (np.zeros((0, 4, 3), np.uint8), "not empty"),
        (np.full((4, 4, 3), 300.0), "0-1.*Divide by 255"),
        (np.full((4, 4, 3), np.nan), "finite"),
        (np.zeros((4, 4, 3), np.int64), "uint8, uint16 or float"),
        (b"", "empty: 0 bytes"),
        (b"not a picture", "not a picture"),
        ("/nowhere/x.jpg", "/nowhere/x.jpg: no such file"),
        (".", "not a regular file"),
    ],
)
def test_what_is_no_picture_says_why(model: OnnxLocalizer, source: object, reason: str) -> None:
    with pytest.raises(PictureError, match=reason):
        model.predict(source)  # type: ignore[arg-type]


def test_a_truncated_picture_is_found(model: OnnxLocalizer) -> None:
    whole = as_bytes(Image.effect_noise((200, 200), 90).convert("RGB"), "JPEG")
    with pytest.raises(PictureError, match="truncated"):
        model.predict(whole[: len(whole) // 2])


def test_a_bad_picture_leaves_its_neighbours_alone(model: OnnxLocalizer, photo: Path) -> None:
    expected = model.predict(photo)[0]
    for count in (1, 2, 3, BATCH + 1, 2 * BATCH + 3):
        for bad in {0, count // 2, count - 1}:
            sources: list[str | bytes] = [str(photo)] * count
            sources[bad] = b"rubbish"
            answers = list(model.stream(sources))
            assert len(answers) == count
            assert [i for i, a in enumerate(answers) if isinstance(a, PictureError)] == [bad]
            good = [a for a in answers if isinstance(a, Prediction)]
            np.testing.assert_allclose([a.box.xyxy for a in good], [expected.box.xyxy] * (count - 1), atol=1e-3)
    assert all(isinstance(a, PictureError) for a in model.stream([b"x"] * 20))


# ---- laziness


def test_streaming_is_lazy_and_takes_constant_memory() -> None:
    taken, most = 0, 0
    picture = bright(64, 64, (8, 8, 40, 40))

    def supply() -> Iterator[Image.Image]:
        nonlocal taken
        while True:  # never ends: only a lazy reader can answer at all
            taken += 1
            yield picture

    finder = Finder()
    stream = finder.stream(supply())
    for given in range(200):
        assert isinstance(next(stream), Prediction)
        most = max(most, taken - given)
    assert most <= 2 * BATCH + 1
    stream.close()  # type: ignore[attr-defined]
    assert max(finder.batches) <= BATCH


def test_a_single_picture_is_answered_before_the_next_is_asked_for(model: OnnxLocalizer) -> None:
    """An iterator that breaks: what came before is not lost without a word."""

    def broken() -> Iterator[bytes]:
        yield as_bytes(bright(32, 32, (4, 4, 20, 20)))
        raise RuntimeError("the camera is gone")

    with pytest.raises(RuntimeError, match="the camera is gone"):
        model.predict(broken())


# ---- the answer


def test_the_spellings_of_a_box() -> None:
    """Bright from (20, 30) to (120, 60) in a 200x100 picture."""
    answer = Finder(imgsz=200).predict(bright(200, 100, (20, 30, 120, 60)))[0]
    assert answer.box.image_size == (200, 100)
    assert answer.box.xyxy == pytest.approx((20, 30, 120, 60), abs=0.01)
    assert answer.box.xywh == pytest.approx((70, 45, 100, 30), abs=0.01)
    assert answer.box.xyxyn == pytest.approx((0.1, 0.3, 0.6, 0.6), abs=1e-4)
    assert answer.box.xywhn == pytest.approx((0.35, 0.45, 0.5, 0.3), abs=1e-4)
    assert answer.edge_sigmas == (50, 25, 50, 25)
    assert answer.label == "bright"
    assert answer.score == answer.probabilities.max()
    # a pixel that the box touches is in the crop; the network's float32 may touch one more on each side
    assert answer.crop().size == pytest.approx((100, 30), abs=1)
    assert np.asarray(answer.crop())[:-1, :-1].min() == 255
    assert answer.crop(margin=0.1).size == pytest.approx((120, 36), abs=2)
    assert answer.crop(margin=50).size == (200, 100)
    assert answer.named == answer.caption == f"bright {answer.score:.0%}"
    absent = replace(answer, present=False)
    assert (absent.named, absent.caption) == (answer.named, "no object of its classes")
    assert replace(absent, present=True, class_names=("bright",)).caption == "bright"
    drawn = answer.plot()
    assert drawn.size == (200, 100)
    assert drawn.tobytes() != bright(200, 100, (20, 30, 120, 60)).tobytes()


def test_an_answer_as_json(model: OnnxLocalizer, photo: Path) -> None:
    answer = model.predict(photo)[0]
    row = json.loads(json.dumps(answer.to_dict(), allow_nan=False))
    assert set(row) == {"path", "label", "score", "box", "probabilities", "edge_sigmas", "image_size"}
    assert row["path"] == str(photo)
    assert row["image_size"] == [64, 48]
    assert list(row["probabilities"]) == ["green", "red"]
    assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert row["score"] == max(row["probabilities"].values())
    x0, y0, x1, y1 = row["box"]
    assert 0 <= x0 <= x1 <= 64
    assert 0 <= y0 <= y1 <= 48


def test_answers_can_be_compared(model: OnnxLocalizer, photo: Path) -> None:
    first, second = model.predict(photo)[0], model.predict(photo)[0]
    other = model.predict(bright(64, 48, (0, 0, 5, 5)))[0]
    assert first == second
    assert first != other
    assert first in [other, second]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_those_of_the_upright_picture(orientation: int, tmp_path: Path) -> None:
    """The upright picture is 300x100, bright in its lower left; stored turned, with the EXIF note saying how."""
    upright = bright(300, 100, (30, 60, 120, 90))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    for source in (tmp_path / "turned.jpg", (tmp_path / "turned.jpg").read_bytes()):
        answer = Finder(imgsz=300).predict(source)[0]
        assert answer.box.image_size == (300, 100)
        assert answer.box.xyxy == pytest.approx((30, 60, 120, 90), abs=2)
        assert answer.plot().size == (300, 100)
        assert np.asarray(answer.crop()).mean() > 230


@pytest.mark.parametrize(("width", "height"), [(1000, 50), (50, 1000), (1, 1), (1, 500), (3, 2)])
def test_wide_tall_and_tiny_pictures(model: OnnxLocalizer, width: int, height: int) -> None:
    answer = model.predict(bright(width, height, (0, 0, max(1, width // 2), max(1, height // 2))))[0]
    x0, y0, x1, y1 = answer.box.xyxy
    assert 0 <= x0 <= x1 <= width
    assert 0 <= y0 <= y1 <= height
    assert min(answer.crop().size) >= 1
    assert answer.plot().size == (width, height)


def test_decode_clips_orders_and_scales() -> None:
    outputs = {
        "logits": np.float32([[0, np.log(3)], [1000, -1000]]),
        "boxes_01": np.float32([[-0.2, 0.75, 0.5, 0.25], [0.1, 0.2, 1.4, 2.0]]),
        "sigmas_01": np.float32([[0.1, 0.1, 0.2, np.nan], [0, 0, 0, 0]]),
    }
    (p, box, sigmas), (p2, box2, _) = decode(outputs, [ImageSize(200, 100), ImageSize(10, 10)], ("a", "b"))
    assert p == pytest.approx([0.25, 0.75])
    assert box.xyxy == pytest.approx((0, 25, 100, 75))
    assert sigmas[:3] == pytest.approx((20, 10, 40))
    assert np.isnan(sigmas[3])
    assert p2 == pytest.approx([1, 0])
    assert box2.xyxy == pytest.approx((1, 2, 10, 10))
    assert softmax(np.array([[1e4, 1e4 - np.log(3)]]))[0] == pytest.approx([0.75, 0.25])
    with pytest.raises(ModelError, match="2 classes, the manifest names 3"):
        decode(outputs, [ImageSize(1, 1)] * 2, ("a", "b", "c"))


def test_unknown_sigmas_are_null_in_json() -> None:
    class Unsure(Finder):
        def run(self, pictures: Pixels) -> Outputs:
            return {**super().run(pictures), "sigmas_01": np.full((len(pictures), 4), np.nan, np.float32)}

    row = Unsure().predict(bright(8, 8, (1, 1, 5, 5)))[0].to_dict()
    assert row["edge_sigmas"] == [None] * 4


# ---- loading


def test_a_run_folder_is_a_model_too(tiny_run: Path) -> None:
    by_folder, by_file = onebox.load(tiny_run), onebox.load(str(tiny_run / "model.onnx"))
    assert by_folder.manifest == by_file.manifest
    assert by_folder.class_names == ("green", "red")
    assert "2 classes, plain, 32 px" in repr(by_file)


def test_what_is_no_model_says_so(tmp_path: Path, tiny_run: Path) -> None:
    with pytest.raises(ModelError, match=r"nothing.onnx: no such model file"):
        onebox.load(tmp_path / "nothing.onnx")
    with pytest.raises(ModelError, match=r"this folder holds no model.onnx. Has its training finished"):
        onebox.load(tmp_path)
    (tmp_path / "text.onnx").write_text("this is not a model\n")
    with pytest.raises(ModelError, match=r"text.onnx: not a readable ONNX model"):
        onebox.load(tmp_path / "text.onnx")
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(ModelError, match=r"empty.onnx"):
        onebox.load(tmp_path / "empty.onnx")
    whole = (tiny_run / "model.onnx").read_bytes()
    for share in (0.1, 0.5, 0.99):
        (tmp_path / "cut.onnx").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ModelError, match=r"cut.onnx"):
            onebox.load(tmp_path / "cut.onnx")


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        ("not json", "damaged"),
        ("[]", "damaged"),
        ('{"schema": 99}', "newer onebox.*Update onebox"),
        ('{"schema": 1}', "damaged"),
        ('{"schema": 1, "class_names": [], "imgsz": 32, "backbone": "", "recipe": "", "box_head": "", '
         '"onebox_version": "", "baseline": {}, "data": {}}', "damaged"),
    ],
)  # fmt: skip
def test_a_damaged_manifest(manifest: str, reason: str) -> None:
    with pytest.raises(ModelError, match=f"m.onnx.*{reason}"):
        Manifest.from_json(manifest, where="m.onnx")


def test_a_manifest_survives_its_json(model: OnnxLocalizer) -> None:
    again = Manifest.from_json(model.manifest.to_json(), where="x")
    assert again == model.manifest
    later = model.manifest.to_json().replace('"schema"', '"colour_of_the_sky": "blue", "schema"')
    assert Manifest.from_json(later, where="x") == model.manifest  # additions of a later version are ignored


# ---- the ground floor alone

GROUND_FLOOR = """
import sys
import onebox
from onebox.draw import contact_sheet, draw_thumbnail
model = onebox.load(sys.argv[1])
data = onebox.load_dataset(sys.argv[2])
answer = model.predict(data[0].path)[0]
answer.plot().save(sys.argv[3] + "/drawn.png")
contact_sheet([(draw_thumbnail(answer.plot(), answer.box, px=64), "x", True)], heading="h").save(sys.argv[3] + "/s.png")
metrics = onebox.evaluate(model, data)
checkup = onebox.check(data)
try:
    onebox.train(data, out=sys.argv[3] + "/run")
except onebox.OneboxError as error:
    print(type(error).__name__, error)
upper = {"torch", "torchvision", "timm", "accelerate", "onnx", "safetensors"} & set(sys.modules)
print(metrics.n, checkup.usable, sorted(upper))
"""


def test_the_ground_floor_runs_with_torch_blocked(tiny_run: Path, tmp_path: Path) -> None:
    data = coloured_set(tmp_path / "set", count=6)
    script = tmp_path / "script.py"
    script.write_text(GROUND_FLOOR)
    done = python("-c", BLOCKED, script, tiny_run, data, tmp_path)
    assert done.code == 0, done.err
    assert done.out.splitlines() == [
        'MissingExtraError training needs torch, which is not installed. Run: pip install "onebox[train]"',
        "6 6 []",
    ]
    assert (tmp_path / "drawn.png").stat().st_size > 100
    assert not (tmp_path / "run").exists()


def test_with_torch_installed_it_is_still_not_imported(tiny_run: Path, tiny_set: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(GROUND_FLOOR.replace('onebox.train(data, out=sys.argv[3] + "/run")', "pass"))
    done = python(script, tiny_run, tiny_set, tmp_path)
    assert (done.code, done.out.splitlines()) == (0, ["24 24 []"]), done.err
