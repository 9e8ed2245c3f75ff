"""Where pretrained weights come from, and what is said of those that cannot be had."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402

from onebox.errors import WeightsError  # noqa: E402
from onebox.training.api import default_epochs, resolve  # noqa: E402
from onebox.training.config import make_config  # noqa: E402
from onebox.training.trunk import build_trunk  # noqa: E402
from tests.small_runs import shell  # noqa: E402


@pytest.mark.parametrize(
    ("wanted", "backbone", "imgsz"),
    [
        ({}, "tf_mobilenetv3_small_100", None),
        ({"recipe": "plain"}, "tf_mobilenetv3_small_100", 192),
        ({"weights": "none"}, "plain", 96),
        ({"weights": "none", "recipe": "plain"}, "plain", 96),
        ({"backbone": "plain"}, "plain", 96),
        ({"weights": "none", "backbone": "resnet18"}, "resnet18", 96),
        ({"weights": "none", "imgsz": 160}, "plain", 160),
        ({"weights": "folder/resnet18.safetensors"}, "resnet18", None),
        ({"weights": "resnet18.a1_in1k.safetensors"}, "resnet18", None),
        ({"weights": "resnet18.safetensors", "backbone": "resnet34"}, "resnet34", None),
        ({"weights": "model.safetensors"}, "tf_mobilenetv3_small_100", None),
        ({"weights": "resnet18.pth"}, "tf_mobilenetv3_small_100", None),
    ],
)
def test_which_trunk_and_size_the_weights_mean(wanted: dict[str, Any], backbone: str, imgsz: int | None) -> None:
    config = make_config(**wanted)
    assert (config.backbone, config.imgsz) == (backbone, imgsz)
    assert make_config(**config.to_dict()) == config, "a saved config says it all"


@pytest.mark.parametrize(
    ("wanted", "pictures", "imgsz"),
    [
        ({}, 1499, 224),
        ({}, 1500, 192),
        ({"minutes": 1}, 1499, 224),
        ({"imgsz": 160}, 1499, 160),
        ({"recipe": "plain"}, 1499, 192),
        ({"weights": "none"}, 1499, 96),
        ({"recipe": "plain", "weights": "none"}, 1500, 96),
    ],
)
def test_few_pictures_are_seen_larger(wanted: dict[str, Any], pictures: int, imgsz: int) -> None:
    assert resolve(make_config(**wanted), pictures).side == imgsz


def test_a_weights_file_where_training_is_not_installed(tiny_set: Path, tmp_path: Path) -> None:
    (tmp_path / "without" / "timm").mkdir(parents=True)
    (tmp_path / "without" / "timm" / "__init__.py").write_text("raise ModuleNotFoundError('no timm', name='timm')")
    done = shell(
        "train", tiny_set, "--out", tmp_path / "run", "--weights", "resnet18.safetensors",
        PYTHONPATH=str(tmp_path / "without"),
    )  # fmt: skip
    done.says(r"training needs timm, which is not installed.*onebox\[train\]")
    assert "Traceback" not in done.err


def test_how_many_passes_where_nobody_says() -> None:
    counts = (10, 300, 1000, 10_000)
    assert [default_epochs(n) for n in counts] == [60, 60, 18, 12]
    assert [default_epochs(n, from_nothing=True) for n in counts] == [100, 100, 32, 12]
    for wanted, epochs in (({}, 18), ({"weights": "none"}, 32), ({"backbone": "plain"}, 32)):
        assert resolve(make_config(**wanted), 1000).epochs == epochs


def test_weights_that_cannot_be_had(tmp_path: Path) -> None:
    ways = r"--weights FILE\.safetensors.*--weights none"
    name = "mobilenetv3_small_050"
    with pytest.raises(WeightsError, match=rf"nowhere.safetensors: no such weights file.*{ways}"):
        build_trunk(name, str(tmp_path / "nowhere.safetensors"), 32)
    with pytest.raises(WeightsError, match=rf"no such weights file.*{ways}"):
        build_trunk(name, str(tmp_path), 32)
    (tmp_path / "text.safetensors").write_text("no tensors here")
    with pytest.raises(WeightsError, match=rf"text.safetensors: not a readable .safetensors file.*{ways}"):
        build_trunk(name, str(tmp_path / "text.safetensors"), 32)
    save_file({"conv_stem.weight": torch.zeros(16, 3, 3, 3)}, tmp_path / "part.safetensors")
    with pytest.raises(WeightsError, match=rf"part.safetensors: \d+ of the trunk's \d+ tensors.*{ways}"):
        build_trunk(name, str(tmp_path / "part.safetensors"), 32)
    with pytest.raises(WeightsError, match=r"the plain trunk has no pretrained weights\. Use --weights none"):
        build_trunk("plain", str(tmp_path / "part.safetensors"), 32)


def test_weights_of_the_full_network_fill_the_trunk(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(1)
    full = timm.create_model("mobilenetv3_small_050", pretrained=False)
    state = {k: torch.randn_like(v) if v.dtype.is_floating_point else v for k, v in full.state_dict().items()}
    save_file(state, tmp_path / "full.safetensors")
    trunk = build_trunk("mobilenetv3_small_050", str(tmp_path / "full.safetensors"), 64)
    loaded = trunk.net.state_dict()
    assert len(loaded) > 100
    for key, value in loaded.items():
        assert torch.equal(value, state[key]), key
    maps = trunk.eval()(torch.zeros(1, 3, 64, 64))
    assert [tuple(m.shape[1:]) for m in maps] == [(trunk.channels[0], 4, 4), (trunk.channels[1], 2, 2)]


def test_a_download_that_fails_stops_the_run_at_once(tiny_set: Path, tmp_path: Path) -> None:
    """Every way out leads to a closed port of this machine."""
    nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    proxies = {k: v for key, v in nowhere.items() for k in (key, key.lower())} | {"NO_PROXY": "", "no_proxy": ""}
    began = time.perf_counter()
    done = shell(
        *("train", tiny_set, "--out", tmp_path / "run", "--backbone", "mobilenetv3_small_050", "--imgsz", "32"),
        **(proxies | {"HF_HOME": str(tmp_path / "hub")}),
    )
    done.says(r"could not download the pretrained weights of mobilenetv3_small_050 .*--weights FILE.*--weights none")
    assert time.perf_counter() - began < 30  # the hub's own client would try for 50 seconds
    assert not (tmp_path / "run").exists()


@pytest.mark.real
@pytest.mark.parametrize("name", ["tf_mobilenetv3_small_100", "mobilenetv2_100"])
def test_real_weights_load_every_tensor_of_the_trunk(name: str, real_weights: Path) -> None:
    state = load_file(real_weights / f"{name}.safetensors")
    trunk = build_trunk(name, str(real_weights / f"{name}.safetensors"), 64)
    loaded = trunk.net.state_dict()
    missing = [k for k, v in loaded.items() if not (k in state and torch.equal(v, state[k]))]
    assert [k for k in missing if not k.endswith("num_batches_tracked")] == []
    other = {"tf_mobilenetv3_small_100": "mobilenetv2_100", "mobilenetv2_100": "tf_mobilenetv3_small_100"}[name]
    with pytest.raises(WeightsError, match=r"tensors are not in it.*this very timm backbone"):
        build_trunk(other, str(real_weights / f"{name}.safetensors"), 64)
