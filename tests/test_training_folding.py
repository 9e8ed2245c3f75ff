"""A convolution that does its BatchNorm's work gives what the two give, and is called what it was called."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from onebox.training.config import make_config
from onebox.training.folding import fold_pairs, unfold
from onebox.training.heads import Probe
from onebox.training.model import build_network
from onebox.training.trunk import Trunk, build_trunk

PICTURES = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 4 - 2


def started(name: str) -> nn.Module:
    """A network of timm's whose norms are not what every untrained network's are."""
    torch.manual_seed(0)
    net = timm.create_model(name, pretrained=False, features_only=True)
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.uniform_(-0.5, 0.5)
                layer.running_mean.uniform_(-0.5, 0.5)
                layer.running_var.uniform_(0.5, 1.5)
    return net


def assert_alike(mine: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    for a, b in zip(mine, theirs, strict=True):
        assert float((a - b).abs().max()) <= 1e-4 * float(b.abs().max())


@pytest.mark.parametrize(
    "name", ["tf_mobilenetv3_small_100", "resnet18", "resnetv2_50", "densenet121", "mobilenetv2_100"]
)
def test_nothing_that_a_network_gives_changes(name: str) -> None:
    net = started(name)
    plain = copy.deepcopy(net)
    numbers = torch.get_rng_state()
    count = fold_pairs(net, PICTURES)
    assert count > 15
    assert torch.equal(numbers, torch.get_rng_state())
    for (called, mine), (wanted, theirs) in zip(net.state_dict().items(), plain.state_dict().items(), strict=True):
        assert called == wanted
        assert torch.equal(mine, theirs)
    with torch.no_grad():
        for one in (net.eval(), copy.deepcopy(net)):
            assert_alike(one(PICTURES), plain.eval()(PICTURES))
        unfold(net)
        assert all(torch.equal(a, b) for a, b in zip(net(PICTURES), plain(PICTURES), strict=True))
    assert [type(m) for m in net.modules()] == [type(m) for m in plain.modules()]


def test_in_training_a_norm_learns_from_the_batch_as_before() -> None:
    net = started("tf_mobilenetv3_small_100").train()
    plain = copy.deepcopy(net)
    assert fold_pairs(net, PICTURES) == 34
    assert net.training
    for one in (net, plain):
        sum(m.square().mean() for m in one(PICTURES)).backward()
    for (name, mine), (_, theirs) in zip(net.named_parameters(), plain.named_parameters(), strict=True):
        assert torch.equal(mine.grad, theirs.grad), name
    for (name, mine), (_, theirs) in zip(net.named_buffers(), plain.named_buffers(), strict=True):
        assert torch.equal(mine, theirs), name


def test_a_network_computed_in_another_order_than_it_is_written_in_is_left_alone() -> None:
    class Crossed(nn.Module):
        """Two convolutions and two norms, the second norm after the first convolution."""

        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.norm1 = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
            self.conv2, self.norm2 = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm1(self.conv2(self.norm2(self.conv1(x)).relu()))

    net = Crossed()  # fresh norms are alike: only statistics that differ can tell them apart
    assert fold_pairs(net, PICTURES) == 0
    assert {type(m) for m in net.modules()} == {Crossed, nn.Conv2d, nn.BatchNorm2d}
    assert all(bool((m.running_mean == 0).all()) for m in (net.norm1, net.norm2))


def test_a_norm_without_statistics_or_scale_of_its_own_is_left_alone() -> None:
    for options in ({"track_running_stats": False}, {"affine": False}):
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, **options))
        wanted = net.eval()(PICTURES)
        assert fold_pairs(net, PICTURES) == 0
        assert torch.equal(net(PICTURES), wanted)


def test_a_copy_goes_its_own_way() -> None:
    net = started("resnet18").eval()
    fold_pairs(net, PICTURES)
    other = copy.deepcopy(net)
    with torch.no_grad():
        before = net(PICTURES)
        for layer in other.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean += 1
        assert all(torch.equal(a, b) for a, b in zip(net(PICTURES), before, strict=True))
        assert not torch.equal(other(PICTURES)[0], before[0])


def test_held_norms_are_in_evaluation_mode_from_the_start(tmp_path: Path) -> None:
    weights = tmp_path / "random.safetensors"
    save_file(dict(timm.create_model("mobilenetv3_small_050", pretrained=False).state_dict()), weights)
    trunk = build_trunk("mobilenetv3_small_050", str(weights), 64, freeze=8)
    norms = [m for m in trunk.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {m.training for m in norms} == {True, False}
    assert all(m.training == m.weight.requires_grad for m in norms)


def test_a_probe_shares_no_convolution_whose_norm_has_moved(tmp_path: Path) -> None:
    weights = tmp_path / "random.safetensors"
    save_file(dict(timm.create_model("mobilenetv3_small_050", pretrained=False).state_dict()), weights)
    network = build_network(make_config(backbone="mobilenetv3_small_050", weights=str(weights), imgsz=64), 2).eval()
    assert "_PairedConv" in {type(m).__name__ for m in network.modules()}
    untouched: Trunk = copy.deepcopy(network.trunk)
    with torch.no_grad():
        wanted = untouched(PICTURES)[-1]
        network.trunk.net.bn1.running_mean += 1  # the stem's convolution stays as it was
        probe = Probe(untouched, 2)
        probe.share(network.trunk)
        assert torch.equal(probe.trunk(PICTURES)[-1], wanted)
    assert probe.trunk.net.conv_stem is not network.trunk.net.conv_stem
    assert probe.trunk.net.blocks[-1] is not network.trunk.net.blocks[-1]


FAULTS = """
import resource, sys
import torch
from onebox.training.config import make_config
from onebox.training.processor import processor_set_up

def faults(turns=20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(turns):
        torch.ones(4_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

usual = faults()
with processor_set_up(make_config(threads=1)):
    faults(3)
    during = faults()
print(usual, during)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's own")
def test_a_training_keeps_the_memory_that_every_step_asks_for() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    usual, during = map(int, done.stdout.split())
    assert during < usual / 4, done.stdout
