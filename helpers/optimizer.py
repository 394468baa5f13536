"""The optimizers, and the learning rate of each of their steps."""

import math

import torch


class Muon(torch.optim.AdamW):
    """AdamW, but the groups with ``muon=True`` take steps that are orthogonal matrices.

    Such a step changes a layer's output by as much in each direction, also in those that the
    gradient hardly knows. By Jordan et al. (2024, https://kellerjordan.github.io/posts/muon, code
    at https://github.com/KellerJordan/Muon).
    """

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for weight in group["params"]:
                if group["muon"] and weight.grad is not None:
                    self._move(weight, group)
                    weight.grad = None  # so that AdamW leaves it
        return super().step(closure)

    def _move(self, weight, group):
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
            state["step"] = torch.zeros(())  # which AdamW expects in every state
        momentum = state["momentum"].lerp_(weight.grad, 0.05)
        direction = weight.grad.lerp(momentum, 0.95)  # Nesterov's
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        dtype = group.get("dtype", torch.float32)
        weight.sub_(orthogonal(direction, dtype=dtype), alpha=group["lr"])


def orthogonal(weight, iterations=3, dtype=torch.float32):
    """About U·Vᵀ of a weight U·S·Vᵀ, times 0.2·√(the longer side): then the rates of AdamW suit.

    The length is that of Liu et al. (2025, arXiv:2502.16982). A filter (out, in, k, k) counts as a
    matrix with ``out`` rows. Newton and Schulz multiply it by a polynomial of its Gram matrix,
    again and again. Here these polynomials, which are small, are multiplied first.

    ``dtype`` is that of the products. bfloat16 is enough where the device multiplies it faster.
    """
    filters = weight.movedim(1, -1)  # flattened without a copy where channels are last
    matrix = filters.flatten(1)
    matrix = (matrix / (matrix.norm() + 1e-7)).to(dtype)
    short, long = sorted(matrix.shape)
    is_tall = len(matrix) > short
    gram = matrix.T @ matrix if is_tall else matrix @ matrix.T  # (short, short)
    identity = torch.eye(short, dtype=dtype, device=gram.device)
    product = identity
    for _ in range(iterations):
        square = product @ gram @ product
        polynomial = 3.4445 * identity - 4.7750 * square + 2.0315 * square @ square
        product = polynomial @ product
    product = product * (0.2 * math.sqrt(long))
    matrix = matrix @ product if is_tall else product @ matrix
    return matrix.to(weight.dtype).reshape(filters.shape).movedim(-1, 1)


OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "muon": Muon}


def make_optimizer(model, settings, precision="no"):
    """Adam, Muon, or AdamW (Loshchilov and Hutter, 2019, arXiv:1711.05101), for a whole model.

    Weight decay applies to weights alone, not to biases and batch norm. Muon leaves those, the
    first layer, the head and linear layers to AdamW. With the ``precision`` "bf16" its matrices are
    multiplied in that.
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
    if precision == "bf16":
        groups[2]["dtype"] = torch.bfloat16
    if settings.optimizer != "muon":
        return OPTIMIZERS[settings.optimizer](groups[:2], lr=settings.lr, fused=True)
    return Muon(groups, lr=settings.lr, foreach=True)


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
