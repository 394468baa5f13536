"""The optimizers, and the learning rate of each of their steps."""

import math

import torch

from helpers.engine.device import accelerator, best_precision


class Muon(torch.optim.AdamW):
    """AdamW, but the groups with ``muon=True`` take steps that are orthogonal matrices.

    Such a step changes a layer's output by as much in each direction, also in those that the
    gradient hardly knows. By Jordan et al. (2024, https://kellerjordan.github.io/posts/muon, code
    at https://github.com/KellerJordan/Muon). The length of a step is that of Liu et al. (2025,
    arXiv:2502.16982), so that the rates of AdamW suit it, too.

    Weights of any shape (out, ...) are taken as matrices with ``out`` rows.
    """

    dtype = torch.float32  # of the matrix products

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            if not group["muon"]:
                continue
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                    state["step"] = torch.zeros(())  # which AdamW expects in every state
                momentum = state["momentum"].lerp_(weight.grad, 0.05)
                direction = weight.grad.lerp(momentum, 0.95)  # Nesterov's
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.sub_(orthogonal(direction, self.dtype), alpha=group["lr"])
                weight.grad = None  # so that AdamW leaves it
        return super().step(closure)


def orthogonal(weight, dtype=torch.float32, iterations=3):
    """About U·Vᵀ of a weight U·S·Vᵀ, times 0.2·√(the longer side), by Newton and Schulz.

    Each iteration multiplies the matrix by a polynomial of its Gram matrix. Here the polynomials,
    which are small, are multiplied first, and the matrix once, at last. It is multiplied in
    ``dtype``, the polynomials always in fp32.
    """
    matrix = weight.movedim(1, -1)  # filters in channels last are in that order already
    shape = matrix.shape
    matrix = matrix.flatten(1)
    is_tall = len(matrix) > matrix.shape[1]
    if is_tall:
        matrix = matrix.T
    matrix = matrix.to(dtype)
    gram = (matrix @ matrix.T).float()
    norm = gram.trace().sqrt() + 1e-7  # the matrix's, by which it is divided
    gram = gram / norm**2
    identity = torch.eye(len(gram), device=gram.device)

    def polynomial(gram):
        return 3.4445 * identity - 4.7750 * gram + 2.0315 * gram @ gram

    product = polynomial(gram)
    for _ in range(iterations - 1):
        product = polynomial(product @ gram @ product) @ product
    product = product * (0.2 * math.sqrt(matrix.shape[1]) / norm)
    matrix = (product.to(dtype) @ matrix).to(weight)

    if is_tall:
        matrix = matrix.T
    return matrix.reshape(shape).movedim(-1, 1)


OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "muon": Muon}


def make_optimizer(model, settings):
    """Adam, Muon, or AdamW (Loshchilov and Hutter, 2019, arXiv:1711.05101), for a whole model.

    Weight decay applies to weights alone, not to biases and batch norm. Muon leaves those, the
    first layer, the head and linear layers to AdamW.
    """
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    filters = []
    if settings.optimizer == "muon":
        filters = [p for p in weights[1:-1] if p.ndim == 4]
        taken = {id(p) for p in filters}
        weights = [p for p in weights if id(p) not in taken]
    groups = [
        {"params": weights, "weight_decay": settings.weight_decay, "muon": False},
        {"params": others, "weight_decay": 0.0, "muon": False},
        {"params": filters, "weight_decay": settings.weight_decay, "muon": True},
    ]
    if settings.optimizer != "muon":
        return OPTIMIZERS[settings.optimizer](groups[:2], lr=settings.lr, fused=True)
    optimizer = Muon(groups, lr=settings.lr, fused=True)
    optimizer._step_supports_amp_scaling = False  # AdamW's does, but Muon's does not
    if accelerator(settings.precision).mixed_precision == best_precision() == "bf16":
        optimizer.dtype = torch.bfloat16
    return optimizer


def learning_rate(settings, step, steps):
    """The learning rate of step number ``step`` of ``steps``, by ``settings.schedule``.

    "constant" stays at ``settings.lr``. "linear" falls to zero. "cosine" rises in the first tenth,
    then falls to zero along a cosine.
    """
    progress = step / steps
    if settings.schedule == "constant":
        return settings.lr
    if settings.schedule == "linear":
        return settings.lr * (1 - progress)
    if progress < 0.1:
        return settings.lr * (step + 1) / (0.1 * steps + 1)
    return settings.lr * (1 + math.cos(math.pi * (progress - 0.1) / 0.9)) / 2
