"""What a skip carries, and what is lost without it: each experiment takes networks and gives numbers."""

from contextlib import ExitStack, contextmanager

import torch
import torch.nn.functional as F

from helpers.models.resnet import BasicBlock


@contextmanager
def without_blocks(net, numbers):
    """A trained ResNet whose blocks of these numbers (0: first) are taken out (Veit et al., 2016).

    Of a residual block its shortcut is left, identity or projection. Of a plain one nothing would be: its
    input is passed on in its place, every second pixel where the block halves the map, and zeros in the
    channels that it adds (He et al.'s shortcut without parameters). ValueError where there is no such block.
    """
    blocks = [module for module in net.modules() if isinstance(module, BasicBlock)]
    if any(not 0 <= number < len(blocks) for number in numbers):
        raise ValueError(f"no blocks {tuple(numbers)}: this net has 0 … {len(blocks) - 1}")
    with ExitStack() as hooks:
        for number in numbers:
            hooks.enter_context(blocks[number].register_forward_hook(_passed_on))
        yield net


def _passed_on(block, inputs, out):
    (x,) = inputs
    if block.downsample is not None:
        return F.relu(block.downsample(x))
    stride = block.conv1.stride[0]
    return F.pad(x[..., ::stride, ::stride], (0, 0, 0, 0, 0, out.shape[1] - x.shape[1]))


@torch.no_grad()
def bridge_means(net, batches):
    """What each bridge of a U-Net carries on average: a (C,) tensor per level, shallowest first.

    The mean over pictures and pixels of ``batches``, each inputs (N, C, H, W) as the network sees them.
    """
    sums, count, was_training = [0.0] * len(net.down), 0, net.training

    def note(level):
        def hook(module, inputs, out):
            sums[level] = sums[level] + out.float().mean((2, 3)).sum(0)

        return hook

    try:
        with ExitStack() as hooks:
            for level, block in enumerate(net.down):
                hooks.enter_context(block.register_forward_hook(note(level)))
            for inputs in batches:
                net.eval()(inputs.to(next(net.parameters()).device))
                count += len(inputs)
    finally:
        net.train(was_training)
    return [total / count for total in sums]


@contextmanager
def without_bridges(net, levels, means):
    """A trained U-Net whose bridges of these levels (0: shallowest) carry ``means[level]`` at every pixel.

    The contracting path goes on as trained. With the mean the next layer gets the statistics it was trained
    on; zeros in its place would shift them, and more would be lost than what the map said. ValueError where
    a level has no bridge.
    """
    if missing := [level for level in levels if not (0 <= level < len(net.skip) and net.skip[level])]:
        raise ValueError(f"no bridges at levels {missing}: this U-Net's are {net.skip}, shallowest first")

    def replace(level):
        def hook(block, inputs):
            (joined,) = inputs  # (N, bridge's channels + upsampled ones, H, W)
            mean = means[level].to(joined)[None, :, None, None].expand(len(joined), -1, *joined.shape[2:])
            return torch.cat([mean, joined[:, mean.shape[1] :]], 1)

        return hook

    with ExitStack() as hooks:
        for level in levels:
            hooks.enter_context(net.up[level].register_forward_pre_hook(replace(level)))
        yield net
