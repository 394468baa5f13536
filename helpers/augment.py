"""Random views of a whole batch on its device: every picture its own, images bilinear, masks nearest."""

import torch
import torch.nn.functional as F


def draw_views(count, generator):
    """(7, count) numbers in [−1, 1] on the CPU, what ``augment`` does to each of ``count`` pictures.

    The same generator state gives the same views on every device, and on any number of processes.
    """
    return 2 * torch.rand(7, count, generator=generator) - 1


def augment(images, target, strength, views):
    """Flip, scale, move and turn each picture (and its mask alike), and change its light.

    Args:
        images: (N, 3, H, W) float in [0, 1].
        target: (N, H, W) class ids, moved with the picture, or anything else, returned as it is.
        strength: 1 turns by up to ±12°, scales by up to ±25 %, moves by up to ±10 %, changes
            brightness and contrast by up to ±25 %; 0 changes nothing at all.
        views: (7, N), from ``draw_views``.
    """
    if not strength:
        return images, target
    if images.is_cuda:
        views = views.pin_memory()  # else the copy would wait for all that the GPU still has to do
    views = views.to(images.device, non_blocking=images.is_cuda)
    flip, angle, scale, right, down, brightness, contrast = views
    scale = 2.0 ** (0.32 * strength * scale)
    angle = 0.21 * strength * angle
    aspect = images.shape[-2] / images.shape[-1]
    cos, sin, mirror = scale * angle.cos(), scale * angle.sin(), flip.sign()
    right, down = 0.2 * strength * right, 0.2 * strength * down
    rows = torch.stack([cos * mirror, -sin * aspect, right, sin * mirror / aspect, cos, down], 1)
    grid = F.affine_grid(rows.view(-1, 2, 3), images.shape, align_corners=False)
    images = F.grid_sample(images, grid, "bilinear", "reflection", align_corners=False)
    if target.ndim == 3:
        moved = F.grid_sample(target[:, None].float(), grid, "nearest", "reflection", align_corners=False)
        target = moved[:, 0].to(target.dtype)
    gain, offset = (1 + 0.25 * strength * contrast), 0.25 * strength * brightness
    images = (images - 0.5) * gain.view(-1, 1, 1, 1) + 0.5 + 0.5 * offset.view(-1, 1, 1, 1)
    return images.clamp(0, 1), target


def halved(images, target):
    """Pictures (N, C, H, W), and masks (N, H, W), of half the size, rounded up; another target as it is."""
    target = target[:, ::2, ::2] if target.ndim == 3 else target
    return F.avg_pool2d(images, 2, ceil_mode=True), target
