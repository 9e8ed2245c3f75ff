"""The trunk: which layers are held, and that held means held."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from accelerate import Accelerator  # noqa: E402

from onebox.training.balance import measure, watch  # noqa: E402
from onebox.training.config import make_config  # noqa: E402
from onebox.training.model import build_network  # noqa: E402
from onebox.training.trunk import TimmTrunk, build_trunk  # noqa: E402

TRUNK = "tf_mobilenetv3_small_100"


@pytest.mark.parametrize(
    ("name", "stride", "first_free"),
    [
        (TRUNK, 8, "blocks.2.0.conv_pw.weight"),
        (TRUNK, 4, "blocks.1.0.conv_pw.weight"),
        ("resnet18", 8, "layer3.0.conv1.weight"),
        ("vit_tiny_patch16_224", 8, "model.cls_token"),  # it has no stage that fine: nothing is held
        ("resnet18", 0, "conv1.weight"),
    ],
)
def test_layers_are_held_up_to_a_stride(name: str, stride: int, first_free: str) -> None:
    trunk = TimmTrunk(name, 64)
    trunk.freeze(stride)
    held = [parameter.requires_grad for _, parameter in trunk.net.named_parameters()]
    assert held == sorted(held), "held layers come first, without a gap"
    assert next(n for n, p in trunk.net.named_parameters() if p.requires_grad) == first_free


@pytest.mark.real
def test_a_step_leaves_held_layers_and_their_statistics_alone(real_weights: Path) -> None:
    config = make_config(backbone=TRUNK, weights=str(real_weights / f"{TRUNK}.safetensors"), imgsz=64)
    network = build_network(config, 3).train()
    before = {k: v.clone() for k, v in network.trunk.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    output = network(torch.rand(4, 3, 64, 64) * 255)
    (output.logits.square().mean() + output.box.boxes_01.square().mean()).backward()
    optimizer.step()
    changed = {k for k, v in network.trunk.state_dict().items() if not torch.equal(v, before[k])}
    held = ("net.conv_stem", "net.bn1", "net.blocks.0", "net.blocks.1")
    assert not [k for k in changed if k.startswith(held)]
    assert {"net.blocks.2.0.conv_pw.weight", "net.blocks.2.0.bn1.running_mean"} <= changed


@pytest.mark.parametrize("stride", [16, 32])
def test_the_pull_of_both_branches_is_measured_where_all_of_a_map_is_held(stride: int) -> None:
    network = build_network(make_config(backbone=TRUNK, weights="none", imgsz=64), 3).train()
    network.trunk.freeze(stride)
    output = network(torch.rand(4, 3, 64, 64) * 255)
    watch(output)
    (output.logits.square().mean() + output.box.boxes_01.square().mean()).backward()
    pull = measure(output, Accelerator(cpu=True))
    assert pull.class_norm > 0
    assert pull.box_norm > 0
    free = [name for name, p in network.named_parameters() if p.grad is not None and name.startswith("trunk.")]
    assert all(name.startswith(("trunk.net.blocks.5", "trunk.net.blocks.4")) for name in free)
    assert bool(free) == (stride == 16)


@pytest.mark.real
def test_the_plain_recipe_and_random_weights_hold_nothing(real_weights: Path) -> None:
    file = str(real_weights / f"{TRUNK}.safetensors")
    plain = build_network(make_config(recipe="plain", backbone=TRUNK, weights=file, imgsz=64), 3)
    assert all(p.requires_grad for p in plain.parameters())
    assert all(p.requires_grad for p in build_trunk(TRUNK, "none", 64, freeze=8).parameters())
