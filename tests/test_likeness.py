"""Copies are found - re-encoded, resized, cropped, mirrored - and other pictures are not; what the doctor says of them;
that a training does not start on them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from onebox.boxes import iou
from onebox.copies import copy_groups, find_copies
from onebox.doctor import check
from onebox.images import Pixels, load_pixels
from onebox.likeness import GREY, Pair, Signature, clusters, find_pairs, pairs_across, signature, thumbnail
from onebox.types import ImageSize
from tests.small_sets import text


def scene(seed: int, width: int = 240, height: int = 180) -> Image.Image:
    """Some dozen coloured ellipses and lines on a slope of colour: as different from one seed to the next as photos."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(40, 220, (2, 2, 3), dtype=np.uint8)
    image = Image.fromarray(corners).resize((width, height), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(image)
    for _ in range(16):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        w, h = int(rng.integers(10, 80)), int(rng.integers(10, 80))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        draw.ellipse((x - w // 2, y - h // 2, x + w // 2, y + h // 2), fill=colour)
        draw.line((x, y, x + h, y - w), fill=colour[::-1], width=3)
    return image


def encoded(image: Image.Image, quality: int) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return Image.open(io.BytesIO(out.getvalue())).convert("RGB")


def pairs_of(images: list[Image.Image], **options: list[int]) -> list[Pair]:
    return find_pairs([signature(image) for image in images], lambda i: thumbnail(images[i]), **options)


SCENES = [scene(seed) for seed in range(40)]
COPIES = {
    "jpeg 50": lambda im: encoded(im, 50),
    "jpeg 95": lambda im: encoded(im, 95),
    "half": lambda im: im.resize((im.width // 2, im.height // 2)),
    "double": lambda im: im.resize((im.width * 2, im.height * 2)),
    "another aspect": lambda im: im.resize((160, 160)),
    "mirrored": lambda im: im.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "middle": lambda im: im.crop((12, 9, 228, 171)),
    "corner": lambda im: im.crop((12, 9, 240, 180)),
    "mirrored, jpeg 60": lambda im: encoded(im.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 60),
    "corner, half": lambda im: im.crop((0, 0, 228, 171)).resize((120, 90)),
}


@pytest.mark.parametrize("change", COPIES)
@pytest.mark.parametrize("first", [True, False], ids=["copy last", "copy first"])
def test_a_copy_is_found_among_others(change: str, first: bool) -> None:
    copy = COPIES[change](SCENES[7])
    images = [*SCENES, copy] if first else [copy, *SCENES]
    (found,) = pairs_of(images)
    assert (found.first, found.second) == ((7, 40) if first else (0, 8))
    assert found.kind == ("flipped" if "mirrored" in change else "near")
    assert 0 <= found.distance < 0.2


def test_other_pictures_are_no_copies() -> None:
    assert pairs_of(SCENES) == []


def test_the_same_pixels_are_exact_and_one_stands_for_all() -> None:
    images = [SCENES[0], SCENES[1], SCENES[0].copy(), encoded(SCENES[1], 70), SCENES[0].copy()]
    found = pairs_of(images)
    assert [pair[:3] for pair in found] == [(0, 2, "exact"), (0, 4, "exact"), (1, 3, "near")]
    assert clusters(5, [pair[:2] for pair in found]) == [0, 1, 0, 1, 0]
    across = pairs_across(found, [0, 0, 1, 1, 1])
    assert [pair[:3] for pair in across] == [(0, 2, "exact"), (0, 4, "exact"), (1, 3, "near")]
    assert pairs_across(found, [0, 0, 0, 0, 0]) == []
    # 2 and 4 are identical to 0 and on the same side as each other: each has its partner on the other side
    assert [pair[:2] for pair in pairs_across(found, [1, 0, 0, 0, 0])] == [(0, 2), (0, 4)]


def test_with_parts_only_pairs_of_different_parts_are_looked_for() -> None:
    images = [SCENES[0], encoded(SCENES[0], 70), SCENES[1], encoded(SCENES[1], 70)]
    assert [pair[:2] for pair in pairs_of(images)] == [(0, 1), (2, 3)]
    assert [pair[:2] for pair in pairs_of(images, parts=[0, 0, 0, 1])] == [(2, 3)]


def test_flat_pictures_are_no_copies_of_each_other() -> None:
    """Nothing to tell them apart is no reason to think them the same; equal pixels are."""
    rng = np.random.default_rng(0)
    noisy = [Image.fromarray(rng.integers(250, 256, (90, 120, 3), dtype=np.uint8)) for _ in range(6)]
    assert pairs_of(noisy) == []
    white = Image.new("RGB", (90, 120), "white")
    assert [pair.kind for pair in pairs_of([white, white.copy()])] == ["exact"]


def test_the_same_studio_with_another_thing_in_it_is_no_copy() -> None:
    """One background, a small thing at two places, or in two colours of the same brightness."""
    shots: list[Image.Image] = []
    for x, colour in ((40, (200, 40, 40)), (150, (200, 40, 40)), (40, (44, 111, 94))):
        shot = SCENES[3].copy()
        ImageDraw.Draw(shot).rectangle((x, 60, x + 45, 100), fill=colour)
        shots.append(shot)
    assert pairs_of(shots) == []


def test_a_box_is_carried_to_the_copy() -> None:
    """The crop shows x 12..240 and y 9..180 of the picture; mirrored, x runs the other way."""
    crop = SCENES[5].crop((12, 9, 240, 180))
    for image, box in (
        (crop, ((100 - 12) / 228, (50 - 9) / 171, (200 - 12) / 228, (120 - 9) / 171)),
        (SCENES[5].transpose(Image.Transpose.FLIP_LEFT_RIGHT), (40 / 240, 50 / 180, 140 / 240, 120 / 180)),
    ):
        (found,) = pairs_of([SCENES[5], image])
        on_first = found.on_first(box)
        assert iou([on_first], [(100 / 240, 50 / 180, 200 / 240, 120 / 180)])[0] > 0.97
        (found,) = pairs_of([image, SCENES[5]])
        assert iou([found.on_first((100 / 240, 50 / 180, 200 / 240, 120 / 180))], [box])[0] > 0.97


@settings(max_examples=25, deadline=None)
@given(st.integers(40, 600), st.integers(40, 600), st.integers(0, 5))
def test_a_signature_does_not_depend_on_scale_or_aspect(width: int, height: int, seed: int) -> None:
    large = SCENES[seed].resize((960, 720), Image.Resampling.BICUBIC)
    one, other = signature(large), signature(large.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3))
    assert len(one.digest) == 16
    assert len(one.grey) == GREY * GREY
    assert (one.side, other.side) == (720, min(width, height))
    grey = [np.frombuffer(s.grey, np.uint8).astype(float) for s in (one, other)]
    assert np.abs(grey[0] - grey[1]).mean() < 3


def test_a_picture_and_its_array_have_one_signature() -> None:
    assert signature(SCENES[0]) == signature(np.asarray(SCENES[0]))
    assert signature(np.asarray(SCENES[0]), ImageSize(1000, 900)).side == 900
    assert signature(SCENES[0].convert("L")).grey == signature(SCENES[0].convert("L").convert("RGB")).grey


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 5), st.binary(min_size=GREY * GREY, max_size=GREY * GREY))
def test_any_thumbnails_can_be_compared(count: int, grey: bytes) -> None:
    signatures = [Signature(bytes([i] * 16), grey, 100) for i in range(count)]
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    assert find_pairs(signatures, lambda i: pictures[i]) == []


def test_copies_among_files(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{i}.png") for i in range(4)]
    SCENES[0].save(paths[0])
    SCENES[1].save(paths[1])
    (tmp_path / "2.png").write_bytes(b"no picture")
    encoded(SCENES[0], 80).save(paths[3])
    seen: list[tuple[int, int]] = []
    (pair,) = find_copies(paths, progress=lambda done, total: seen.append((done, total)))
    assert pair[:3] == (0, 3, "near")
    assert seen[-1] == (4, 4)
    assert copy_groups(paths) == [0, None, None, 0]


# ---- the doctor


def doctored(folder: Path) -> Path:
    """train: a, b, c, x; test: a re-encoded, b itself with another box, d; c there are two of, of different classes; x
    and its sibling stand in both."""
    files = {
        "train/a": SCENES[0],
        "train/b": SCENES[1],
        "train/c": SCENES[2],
        "train/c2": SCENES[2],
        "train/x": SCENES[3],
    }
    files |= {"test/a": encoded(SCENES[0], 75), "test/b": SCENES[1], "test/d": SCENES[4], "test/x_aug1": SCENES[5]}
    rows = ["filename,class,xmin,ymin,xmax,ymax,split"]
    for name, image in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{name}.png")
        box = "20,20,120,120" if name == "test/b" else "20,20,120,100"
        rows.append(f"{name}.png,{'dog' if name == 'train/c2' else 'cat'},{box},{name.partition('/')[0]}")
    text(folder / "labels.csv", "\n".join([*rows, ""]))
    return folder


def test_the_doctor_names_copies_disagreements_and_leaks(tmp_path: Path) -> None:
    checkup = check(doctored(tmp_path))
    found = {code: [(Path(f.picture or "").stem, f.message) for f in some] for code, some in checkup.by_code().items()}
    assert [name for name, _ in found["exact-duplicate"]] == ["b", "c2"]
    assert [name for name, _ in found["near-duplicate"]] == ["a"]
    # 100 x 80 inside 100 x 100
    assert found["duplicate-boxes"] == [
        ("b", "the box and that of train/b.png, the same picture, overlap with IoU 0.800 only")
    ]
    ((name, message),) = found["duplicate-classes"]
    assert name == "c"
    assert message.startswith("class 'cat', but 'dog' in train/c2.png, the same picture")
    assert len(found["leaked-copy"]) == 2
    assert {name for name, _ in found["leaked-copy"]} == {"a", "b"}
    assert [name for name, _ in found["leaked-sibling"]] == ["x_aug1"]
    ((_, message),) = found["label-noise"]
    # (1 + 1 + .8) / 3 of the boxes; c and c2 are of different classes
    assert "mean IoU of 0.933 (lowest 0.800), their classes in 2 of 3" in message


@pytest.mark.real
def test_the_known_copies_of_the_real_sets(real_data: Path) -> None:
    raccoons = check(real_data / "raccoon").by_code()
    disagreeing = {(f.picture or "", f.others[0]) for f in raccoons["duplicate-boxes"]}
    numbers = {tuple(int(Path(p).stem.split("-")[1]) for p in pair) for pair in disagreeing}
    assert {(11, 116), (120, 83), (52, 74), (65, 98)} <= numbers
    steel = check(real_data / "neu_det").by_code()
    assert [Path(f.picture or "").stem for f in steel["exact-duplicate"]] == ["patches_105"]
    assert "near-duplicate" not in steel
    frames = check(real_data / "tiny_vid").by_code()
    assert not {"exact-duplicate", "near-duplicate", "leaked-copy"} & set(frames)


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "held_back", "trained_on"),
    [
        ("caltech22_mat", "anchor/image_0005.jpg", "anchor/image_0016.jpg"),
        ("fruit_voc", "test/orange_78.jpg", "train/orange_51.jpg"),
    ],
)
def test_the_official_splits_that_hold_copies(real_data: Path, name: str, held_back: str, trained_on: str) -> None:
    (leak,) = check(real_data / name).by_code()["leaked-copy"]
    assert leak.picture == str(real_data / name / held_back)
    assert leak.others == (str(real_data / name / trained_on),)


@pytest.mark.real
def test_the_plates_disagree_from_425_to_986(real_data: Path) -> None:
    found = check(real_data / "plates_voc").by_code()["duplicate-boxes"]
    overlaps = sorted(float(f.message.rsplit("IoU ", 1)[1].split()[0]) for f in found)
    assert overlaps[0] == 0.425
    assert overlaps[-1] == 0.986


# ---- training


def leaking(tmp_path: Path) -> tuple[Path, Path]:
    """Two data sets of eight scenes each; two of the second are copies of the first's."""
    for name, start, extra in (("train", 0, []), ("val", 10, [encoded(SCENES[1], 90), SCENES[2]])):
        images = [*extra, *SCENES[start : start + 8]][:8]
        rows = ["filename,class,xmin,ymin,xmax,ymax"]
        for i, image in enumerate(images):
            (tmp_path / name).mkdir(exist_ok=True)
            image.save(tmp_path / name / f"{i}.png")
            rows.append(f"{i}.png,{'cat' if i % 2 else 'dog'},20,20,120,100")
        text(tmp_path / name / "labels.csv", "\n".join([*rows, ""]))
    return tmp_path / "train", tmp_path / "val"


@pytest.mark.slow
def test_a_training_refuses_validation_pictures_that_it_trains_on(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    import onebox
    from onebox.errors import TrainingError
    from tests.small_runs import TINY

    train, val = (onebox.load_dataset(folder) for folder in leaking(tmp_path))
    settings = TINY | {"epochs": 1}
    with pytest.raises(TrainingError) as caught:
        onebox.train(train, val, out=tmp_path / "run", **settings)
    message = str(caught.value)
    assert "2 of 8 validation pictures are copies of training pictures" in message
    assert "0.png is a copy of 1.png; 1.png is 2.png" in message
    assert "onebox split" in message
    assert "--allow-leak" in message
    assert not (tmp_path / "run").exists()
    assert onebox.train(train, val, out=tmp_path / "run", allow_leak=True, **settings).model.exists()


def test_what_is_held_out_has_no_copy_in_training(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from onebox.dataset import load_dataset
    from onebox.training.cache import build_cache
    from onebox.training.leaks import find_leaks, hold_out

    rows = ["filename,class,xmin,ymin,xmax,ymax"]
    pictures: dict[str, Pixels] = {}
    for i in range(24):
        image = SCENES[i // 2] if i % 2 == 0 else encoded(SCENES[i // 2], 80)
        image.save(tmp_path / f"{i:02}.png")
        pictures[f"{i:02}.png"] = load_pixels(image, 96)[0]
        rows.append(f"{i:02}.png,cat,20,20,120,100")
    text(tmp_path / "labels.csv", "\n".join([*rows, ""]))
    data = load_dataset(tmp_path)
    train, val, train_cache, val_cache, everything = hold_out(data, build_cache(data, ("cat",), 96), 0.75, seed=0)
    assert (len(train), len(val)) == (18, 6)
    assert val_cache is not None
    assert find_leaks(train_cache, val_cache) == []
    for part, cache in ((train, train_cache), (val, val_cache), ((*train, *val), everything)):
        assert [s.path for s in cache.samples] == [s.path for s in part]
        for picture, sample in zip(cache.pictures, cache.samples, strict=True):
            assert np.array_equal(picture, pictures[Path(sample.path).name])
