"""Each experiment of helpers.skips against an oracle that knows the answer without it."""

import pytest
import torch
from torch import nn

from helpers.architecture import passes_bottleneck
from helpers.models import ResNet, UNet
from helpers.skips import bridge_means, without_blocks, without_bridges


def trained_statistics(net):
    """A network whose batch norms are not at their initial 0 and 1."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return net.eval()


@torch.no_grad()
def test_a_residual_block_that_adds_nothing_can_be_taken_out_and_nothing_changes():
    net, images = trained_statistics(ResNet((1, 2, 1, 1), 5, width=4)), torch.rand(2, 3, 50, 34)
    before = net(images)
    for number, block in enumerate([net.layer1[0], net.layer2[0], net.layer2[1]]):
        with without_blocks(net, [number]):
            assert not torch.equal(net(images), before)
        nn.init.zeros_(block.bn2.weight), nn.init.zeros_(block.bn2.bias)
        before = net(images)
        with without_blocks(net, [number]):
            torch.testing.assert_close(net(images), before)


@torch.no_grad()
def test_a_plain_block_taken_out_passes_every_second_pixel_on_and_zeros_beside():
    net = trained_statistics(ResNet((1, 1, 1, 1), 5, width=4, skip=False))
    x = torch.rand(2, 4, 9, 7)
    with without_blocks(net, [0, 1]):
        torch.testing.assert_close(net.layer1(x), x)
        out = net.layer2(x)
    assert out.shape == (2, 8, 5, 4)
    assert torch.equal(out[:, :4], x[:, :, ::2, ::2]) and not out[:, 4:].any()
    assert net.layer2(x).shape == out.shape and not torch.equal(net.layer2(x), out)


def test_lesions_leave_no_trace():
    net, images = ResNet((1, 1, 1, 1), 5, width=4).train(), torch.rand(2, 3, 33, 33)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(KeyboardInterrupt), without_blocks(net, range(4)):
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="this net has 0 … 3"), without_blocks(net, [1, 4]):
        pass
    assert net.training and all(torch.equal(net.state_dict()[name], state[name]) for name in state)
    assert not any(module._forward_hooks for module in net.modules())
    assert torch.isfinite(net(images)).all()


@torch.no_grad()
def test_bridges_of_one_flat_colour_carry_nothing_but_their_mean():
    net = trained_statistics(UNet(3, 5, width=4))
    for block in net.down:  # maps that do not depend on the place: 1×1 convolutions in all but name
        for module in block:
            if isinstance(module, nn.Conv2d):
                nn.init.zeros_(module.weight)
    images = torch.rand(5, 3, 32, 48)
    means = bridge_means(net, images.split(2))
    before = net(images)
    with without_bridges(net, range(4), means):
        torch.testing.assert_close(net(images), before)


@torch.no_grad()
def test_bridge_means_are_those_of_the_maps_whatever_the_batches():
    net, images = trained_statistics(UNet(3, 5, width=4)).train(), torch.rand(5, 3, 32, 48)
    means = bridge_means(net, images.split(2))
    assert net.training and not any(module._forward_hooks for module in net.modules())
    x = images
    for block, mean in zip(net.eval().down, means, strict=True):
        x = block(x)
        torch.testing.assert_close(mean, x.mean((0, 2, 3)))
        x = nn.functional.max_pool2d(x, 2)


@torch.no_grad()
def test_a_bridge_switched_off_carries_nothing_and_the_others_still_do():
    net, images = trained_statistics(UNet(3, 5, width=4)), torch.rand(2, 3, 32, 48)
    with without_bridges(net, [0, 2], bridge_means(net, [images])):
        assert [passes_bottleneck(net, images, level) > 0 for level in range(4)] == [False, True, False, True]
    assert all(passes_bottleneck(net, images, level) > 0 for level in range(4))
    partly = UNet(3, 5, width=4, skip=[True, True, False, True])
    with (
        pytest.raises(ValueError, match=r"no bridges at levels \[2, 4\]"),
        without_bridges(partly, [2, 4], []),
    ):
        pass
