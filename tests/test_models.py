import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from helpers.architecture import passes_bottleneck
from helpers.models import FCN, ResNet, ResNet18, UNet

NETWORKS = {
    "resnet": lambda **k: ResNet18(5, width=4, **k),
    "fcn": lambda: FCN(5, width=4),
    "unet": lambda **k: UNet(3, 5, width=4, **k),
}


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("depth", [18, 34])
def test_resnets_load_torchvision_weights_and_give_its_logits(depth, train):
    theirs = getattr(torchvision.models, f"resnet{depth}")(num_classes=7)
    ours = ResNet18(7) if depth == 18 else ResNet((3, 4, 6, 3), 7)
    for module in theirs.modules():  # running statistics that differ from their initial 0 and 1
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(3, 3, 97, 75)
    with torch.no_grad():
        expected, found = theirs.train(train)(images), ours.train(train)(images)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_plain_net_has_no_shortcut_parameters_and_no_shortcut():
    residual, plain = NETWORKS["resnet"](), NETWORKS["resnet"](skip=False)
    extra = set(residual.state_dict()) - set(plain.state_dict())
    assert extra and all("downsample" in name for name in extra)
    for net, survives in ((residual, True), (plain, False)):
        block = net.layer1[0].eval()
        nn.init.zeros_(block.bn2.weight)
        assert bool(block(torch.rand(1, 4, 8, 8)).any()) is survives


def test_unet_has_the_channel_plan_of_the_paper():
    net = UNet(1, 2)
    convolutions = [[m for m in block if isinstance(m, nn.Conv2d)] for block in (*net.down, net.bottleneck)]
    assert [[c.out_channels for c in pair] for pair in convolutions] == [
        [c, c] for c in (64, 128, 256, 512, 1024)
    ]
    ups = [[m.in_channels for m in block if isinstance(m, nn.Conv2d)] for block in reversed(net.up)]
    assert ups == [[1024, 512], [512, 256], [256, 128], [128, 64]]
    # The paper's network has 31 030 658 weights; ours has batch norm's scale in place of each 3×3's bias.
    norms = sum(m.num_features for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    assert sum(p.numel() for p in net.parameters()) - norms == 31_030_658


@pytest.mark.parametrize("name", ["fcn", "unet"])
@given(height=st.integers(16, 70), width=st.integers(16, 70))
@settings(max_examples=15, deadline=None)
def test_any_size_comes_back_at_its_own_size(name, height, width):
    net = NETWORKS[name]().eval()
    with torch.no_grad():
        assert net(torch.rand(1, 3, height, width)).shape == (1, 5, height, width)


@pytest.mark.parametrize("size", [(97, 131), (600, 800)])
@pytest.mark.parametrize("name", ["fcn", "unet"])
def test_odd_and_full_size_frames_come_back_at_their_own_size(name, size):
    with torch.no_grad():
        assert NETWORKS[name]().eval()(torch.rand(1, 3, *size)).shape == (1, 5, *size)


@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize("skip", [True, False, *[tuple(i == k for i in range(4)) for k in range(4)]])
def test_a_removed_skip_carries_nothing_across(level, skip):
    expected = skip if isinstance(skip, bool) else skip[level]
    share = passes_bottleneck(NETWORKS["unet"](skip=skip), torch.rand(1, 3, 48, 64), level)
    assert (share > 0) is expected


def test_without_skips_the_bottleneck_alone_changes_the_output():
    net = NETWORKS["unet"](skip=False).eval()
    before = net(torch.rand(1, 3, 32, 32))
    net.bottleneck.register_forward_hook(lambda module, args, out: out + 1)
    assert not torch.equal(before, net(torch.rand(1, 3, 32, 32)))


def test_wrong_arguments_are_named():
    for blocks in ((2, 2, 2), (1, 0, 1, 1)):
        with pytest.raises(ValueError, match=rf"blocks=\({blocks[0]}, .*each of four stages"):
            ResNet(blocks, 5)
    with pytest.raises(ValueError, match="skip has 3 values"):
        UNet(3, 5, skip=[True, False, True])
    with pytest.raises(ValueError, match="15×40: U-Net needs at least 16×16"):
        NETWORKS["unet"]()(torch.rand(1, 3, 15, 40))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_gets_a_gradient(name):
    net = NETWORKS[name]()
    net(torch.rand(2, 3, 64, 64)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
