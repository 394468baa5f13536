"""Random views of a batch, made on its own device. Each image gets a view of its own."""

import torch
import torch.nn.functional as F


def draw_views(count, generator):
    """Random numbers in [−1, 1], (7, count) on the CPU: what ``augment`` does to ``count`` images.

    The same state of the generator gives the same views on every device.
    """
    return 2 * torch.rand(7, count, generator=generator) - 1


def augment(images, target, strength, views):
    """Flip, scale, move and rotate each image, and its mask alike, then change the image's light.

    Args:
        images: (N, 3, H, W) float in [0, 1], sampled bilinearly.
        target: (N, H, W) class ids, sampled at the nearest pixel. Another target stays as it is.
        strength: 1 rotates by up to ±12°, scales by up to ±25 % and moves by up to ±10 % of the
            image. It changes brightness and contrast by up to ±25 %. 0 changes nothing at all.
        views: (7, N), from ``draw_views``.
    """
    if not strength:
        return images, target
    if images.is_cuda:
        views = views.pin_memory()  # copying from other memory waits for the GPU
    views = views.to(images.device, non_blocking=images.is_cuda)
    flip, turn, zoom, right, down = views[:5]
    brightness, contrast = views[5:, :, None, None, None]  # (N, 1, 1, 1) each

    mirror = flip.sign()
    angle = 0.21 * strength * turn
    scale = 2.0 ** (0.32 * strength * zoom)
    cos = scale * angle.cos()
    sin = scale * angle.sin()
    aspect = images.shape[2] / images.shape[3]

    # An affine map per image, from places in the view to places in the image, both in [−1, 1].
    step = 0.2 * strength
    maps = torch.stack(
        [cos * mirror, -sin * aspect, step * right, sin * mirror / aspect, cos, step * down], 1
    )
    places = F.affine_grid(maps.view(-1, 2, 3), images.shape, align_corners=False)  # (N, H, W, 2)

    images = F.grid_sample(images, places, "bilinear", "reflection", align_corners=False)
    if target.ndim == 3:
        mask = F.grid_sample(
            target[:, None].float(), places, "nearest", "reflection", align_corners=False
        )
        target = mask[:, 0].to(target)

    gain = 1 + 0.25 * strength * contrast
    images = (images - 0.5) * gain + 0.5 + 0.125 * strength * brightness
    return images.clamp(0, 1), target
