"""The exported file answers as the trained network does, or there is no exported file."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import onnx  # noqa: E402
from onnx import numpy_helper  # noqa: E402
from PIL import Image  # noqa: E402
from timm.layers.conv2d_same import Conv2dSame  # noqa: E402

import onebox  # noqa: E402
from onebox.errors import ExportError  # noqa: E402
from onebox.images import load_pixels, open_image  # noqa: E402
from onebox.manifest import INPUT_NAME, METADATA_KEY, OUTPUT_NAMES, PRESENCE_OUTPUT, Manifest  # noqa: E402
from onebox.runtime import OnnxLocalizer  # noqa: E402
from onebox.training import export  # noqa: E402
from onebox.training.checkpoint import load_best  # noqa: E402
from onebox.training.config import make_config  # noqa: E402
from onebox.training.model import Network, build_network  # noqa: E402
from onebox.training.predictor import Exported, TorchLocalizer  # noqa: E402
from tests.small_runs import TINY, here  # noqa: E402


@pytest.fixture
def trained(tiny_run: Path) -> tuple[Network, Manifest]:
    weights, manifest = load_best(tiny_run / "best.safetensors")
    network = build_network(make_config(**TINY), 2)
    network.load_state_dict(weights)
    return network, manifest


@pytest.fixture
def pictures(tiny_set: Path) -> list[str]:
    return [str(p) for p in sorted(tiny_set.parent.glob("*.png"))]


def test_the_graph_s_names_and_manifest(tiny_run: Path) -> None:
    model = onnx.load(str(tiny_run / "model.onnx"))
    onnx.checker.check_model(model)
    assert [i.name for i in model.graph.input] == [INPUT_NAME]
    assert tuple(o.name for o in model.graph.output) == (*OUTPUT_NAMES, PRESENCE_OUTPUT)
    assert [entry.key for entry in model.metadata_props] == [METADATA_KEY]
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert model.producer_name == "onebox"
    assert not any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer)


def test_awkward_pictures_are_what_they_say(pictures: list[str]) -> None:
    made = export.awkward_pictures([*pictures[:1], "/nowhere.jpg"])
    opened = [open_image(source) for source in made]
    sizes = [size for _, size in opened]
    w, h = 64, 48
    assert sizes == [(4 * w, h), (w, 4 * h), (h, w), (w, h), (w, h), (w, h), (1, 1)]  # wide, tall, turned by EXIF, ...
    modes = [source.mode if isinstance(source, Image.Image) else type(source).__name__ for source in made]
    assert modes == ["RGB", "RGB", "bytes", "L", "RGBA", "ndarray", "RGB"]


def test_torch_and_onnx_agree_on_everything_awkward(
    trained: tuple[Network, Manifest], tiny_run: Path, pictures: list[str], real_or_tiny: list[str]
) -> None:
    onnx_model, torch_model = onebox.load(tiny_run), TorchLocalizer(*trained)
    sources = [*pictures, *export.awkward_pictures(pictures[:3]), *real_or_tiny]
    check = export.compare(torch_model, onnx_model, sources)
    assert check["pictures"] == len(sources)
    assert check["box_gap_px"] <= export.BOX_GAP_PX
    assert check["probability_gap"] <= export.PROBABILITY_GAP


@pytest.fixture
def real_or_tiny(tmp_path: Path) -> list[str]:
    """A larger photo-like picture, so that half a pixel means something."""
    noise = Image.effect_noise((1200, 900), 80).convert("RGB")
    noise.save(tmp_path / "large.jpg")
    return [str(tmp_path / "large.jpg")]


@pytest.mark.real
def test_real_pictures_through_both(trained: tuple[Network, Manifest], tiny_run: Path, real_data: Path) -> None:
    sources = [str(p) for p in sorted((real_data / "vegetables3").rglob("*.jpg"))[:20]]
    check = export.compare(TorchLocalizer(*trained), onebox.load(tiny_run), sources)
    assert check["pictures"] == len(sources) == 20
    assert check["box_gap_px"] <= export.BOX_GAP_PX
    assert check["probability_gap"] <= export.PROBABILITY_GAP


def test_any_batch_size_gives_the_same_answers(tiny_run: Path, pictures: list[str]) -> None:
    model = onebox.load(tiny_run)
    pixels = np.stack([load_pixels(p, 32)[0] for p in pictures[:17]])
    alone = [model.run(pixels[i : i + 1]) for i in range(17)]
    for count in (1, 2, 3, 8, 17):
        together = model.run(pixels[:count])
        for name in OUTPUT_NAMES:
            expected = np.concatenate([one[name] for one in alone[:count]])
            assert together[name].shape == (count, *expected.shape[1:])
            np.testing.assert_allclose(together[name], expected, atol=1e-5)


def test_the_gaps_are_in_the_manifest(trained: tuple[Network, Manifest], pictures: list[str], tmp_path: Path) -> None:
    network, manifest = trained[0], replace(trained[1], export_check={})  # a run leaves its own
    given = export.export_onnx(network, manifest, tmp_path / "model.onnx", pictures)
    assert onebox.load(tmp_path / "model.onnx").manifest == given
    assert given.export_check["pictures"] == 2 * 7 + 24  # two pictures made awkward in seven ways, and 24 as they are
    assert 0 <= given.export_check["box_gap_px"] <= 0.5
    assert 0 <= given.export_check["probability_gap"] <= 1e-3
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_the_graph_is_proved_at_one_look(
    trained: tuple[Network, Manifest], pictures: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At two, a window that one of them rounds the other way made a probability differ by .0013, and a training ended
    without a model (docs/log.md, 2026-11-30)."""
    asked: list[bool] = []
    real = export.compare

    def compare(a: Any, b: Any, pictures: Any) -> Any:
        asked.extend(model.looks_twice for model in (a, b))
        return real(a, b, pictures)

    monkeypatch.setattr(export, "compare", compare)
    network, manifest = trained[0], replace(trained[1], refine=True)
    export.export_onnx(network, manifest, tmp_path / "model.onnx", pictures)
    assert asked == [False, False]
    assert onebox.load(tmp_path / "model.onnx").looks_twice


def _spoil(path: Path, output: str, by: float) -> None:
    """Adds `by` to one output of the graph, as a wrong operator or a lost weight would."""
    model = onnx.load(str(path))
    graph = model.graph
    for node in graph.node:
        for i, name in enumerate(node.output):
            if name == output:
                node.output[i] = f"{output}_right"
    graph.initializer.append(
        numpy_helper.from_array(np.array([by, 0, 0, 0], np.float32)[: _width(graph, output)], "by")
    )
    graph.node.append(onnx.helper.make_node("Add", [f"{output}_right", "by"], [output]))
    path.write_bytes(model.SerializeToString())


def _width(graph: onnx.GraphProto, output: str) -> int:
    (found,) = (o for o in graph.output if o.name == output)
    return int(found.type.tensor_type.shape.dim[1].dim_value)


@pytest.mark.parametrize(("output", "by"), [("boxes_01", 0.02), ("logits", 0.02)])
def test_a_graph_that_answers_differently_is_refused(
    output: str,
    by: float,
    trained: tuple[Network, Manifest],
    pictures: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """.02 of the width is more than half a pixel of the 64, and .02 in a logit about .005 in a probability."""
    write = export._write_graph

    def write_wrong(network: object, manifest: Manifest, path: Path, *, traced: bool) -> None:
        write(network, manifest, path, traced=traced)  # type: ignore[arg-type]
        _spoil(path, output, by)

    monkeypatch.setattr(export, "_write_graph", write_wrong)
    with pytest.raises(
        ExportError, match=r"model.onnx: ONNX Runtime and torch disagree: boxes by .* px \(allowed 0.5\)"
    ):
        export.export_onnx(*trained, tmp_path / "model.onnx", pictures)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "model.onnx").write_bytes(b"the one from before")
    with pytest.raises(ExportError):
        export.export_onnx(*trained, tmp_path / "model.onnx", pictures)
    assert (tmp_path / "model.onnx").read_bytes() == b"the one from before"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_graph_that_answers_nan_is_refused(
    trained: tuple[Network, Manifest], pictures: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN is not larger than any bound, but it is no answer either."""
    write = export._write_graph

    def write_wrong(network: object, manifest: Manifest, path: Path, *, traced: bool) -> None:
        write(network, manifest, path, traced=traced)  # type: ignore[arg-type]
        _spoil(path, "boxes_01", math.nan)

    monkeypatch.setattr(export, "_write_graph", write_wrong)
    with pytest.raises(ExportError):
        export.export_onnx(*trained, tmp_path / "model.onnx", pictures)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fails", ["writing", "answering"])
def test_what_cannot_be_traced_is_exported_the_slow_way(
    fails: str,
    trained: tuple[Network, Manifest],
    pictures: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write, asked = export._write_graph, []

    def write_wrong(network: object, manifest: Manifest, path: Path, *, traced: bool) -> None:
        asked.append(traced)
        if traced and fails == "writing":
            raise ExportError("an operator that the tracer does not know")
        write(network, manifest, path, traced=traced)  # type: ignore[arg-type]
        if traced:
            _spoil(path, "boxes_01", 0.02)

    monkeypatch.setattr(export, "_write_graph", write_wrong)
    given = export.export_onnx(*trained, tmp_path / "model.onnx", pictures)
    assert asked == [True, False]
    assert given.export_check["box_gap_px"] <= 0.5
    assert onebox.load(tmp_path / "model.onnx").predict(pictures[0])


class Baked(torch.nn.Module):
    """A head that asks how many pictures there are in a way that both exporters take for a constant."""

    def __init__(self, head: torch.nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        logits = self.head(*inputs)
        return logits.reshape(int(logits.shape[0]), -1)


def test_a_graph_for_one_number_of_pictures_is_refused(
    trained: tuple[Network, Manifest], pictures: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, manifest = trained
    network.class_head = Baked(network.class_head)  # type: ignore[assignment]
    write, asked = export._write_graph, []

    def noted(network: object, manifest: Manifest, path: Path, *, traced: bool) -> None:
        asked.append(traced)
        write(network, manifest, path, traced=traced)  # type: ignore[arg-type]

    monkeypatch.setattr(export, "_write_graph", noted)
    with pytest.raises(ExportError, match="ONNX Runtime cannot run the network's graph"):
        export.export_onnx(network, manifest, tmp_path / "model.onnx", pictures)
    assert asked == [True, False]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("trunk", "imgsz"), [("tf_mobilenetv3_small_100", 97), ("tf_efficientnet_lite0", 64)])
def test_padding_that_is_written_down_is_what_the_size_asks_for(trunk: str, imgsz: int) -> None:
    network = Exported(build_network(make_config(backbone=trunk, weights="none", imgsz=imgsz), 3)).eval()
    for many in (2, 3):
        x = torch.randint(0, 256, (many, imgsz, imgsz, 3), dtype=torch.uint8)
        padded = export.with_written_padding(network, x)
        assert not [m for m in padded.modules() if isinstance(m, Conv2dSame)]
        with torch.no_grad():
            for one, other in zip(network(x), padded(x), strict=True):
                torch.testing.assert_close(one, other)
    assert [m for m in network.modules() if isinstance(m, Conv2dSame)]  # the network itself is left alone


def test_pictures_that_cannot_be_read_prove_nothing(
    trained: tuple[Network, Manifest], tiny_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "x.jpg").write_bytes(b"rubbish")
    with pytest.raises(ExportError, match="no readable picture to replay"):
        export.compare(TorchLocalizer(*trained), onebox.load(tiny_run), [str(tmp_path / "x.jpg")])


def test_the_export_command(tiny_run: Path, tiny_set: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    before = onebox.load(run)
    (run / "model.onnx").unlink()
    done = here("export", run, "--pictures", tiny_set.parent)
    assert done.code == 0, done.err
    assert done.out.startswith(f"{run / 'model.onnx'}: ")
    after = onebox.load(run)
    picture = tiny_set.parent / "003.png"
    assert after.predict(picture)[0].box.xyxy == pytest.approx(before.predict(picture)[0].box.xyxy, abs=1e-3)
    assert here("export", run, "--out", tmp_path / "other.onnx").code == 0
    assert isinstance(onebox.load(tmp_path / "other.onnx"), OnnxLocalizer)
    here("export", tmp_path / "nowhere").says(r"nowhere/best.safetensors: no such checkpoint")
    (run / "config.json").write_text("{}")
    here("export", run).says(r"config.json: missing or damaged")
    here("export", run, "--out", tmp_path / "no" / "folder.onnx").says("config.json|cannot write|no such folder")
