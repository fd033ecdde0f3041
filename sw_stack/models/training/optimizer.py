"""The optimiser: Muon for matrices inside the layers, Adam for embedding, output matrix, router and norms.

Muon (K. Jordan, 2024) replaces the momentum of a matrix by a nearly orthogonal matrix with the same row
and column spaces, found by five Newton-Schulz steps. It needs about half the tokens that AdamW needs,
which decides what a CPU can train in an hour. All experts of a layer are one batched product.
"""

from __future__ import annotations

from concurrent.futures import Executor

import torch
from torch import Tensor, nn

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # quintic chosen by its author for slope at zero, not for exactness


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """Matrices (..., rows, columns) with singular values moved to about 1 (0.7 to 1.2), bfloat16."""
    a, b, c = _NEWTON_SCHULZ
    x = matrix.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).contiguous()
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * (square @ square)) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, times ``lr`` x sqrt(max(1, rows / columns)), with weight decay."""

    def __init__(self, parameters, lr: float = 0.0, momentum: float = 0.95, weight_decay: float = 0.01):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    def step(self, pool: Executor) -> None:
        """Update every matrix; independent ones at the same time in the threads of ``pool``."""
        jobs = [(group, parameter) for group in self.param_groups for parameter in group["params"]]
        list(pool.map(lambda job: self._update(*job), jobs))

    @torch.no_grad()
    def _update(self, group: dict, parameter: Tensor) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
        direction = orthogonalise(parameter.grad.lerp(state["momentum"], group["momentum"]))
        rows, columns = parameter.shape[-2:]
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(direction, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)


def optimisers(model: nn.Module, muon_lr: float, adam_lr: float) -> list[torch.optim.Optimizer]:
    """Muon for every matrix of the layers but the router; Adam for the rest, the router at 0.3 of its rate.

    Every parameter group holds its peak rate in "peak"; the trainer sets "lr" from it at every step.

    At the full rate one step can move a router's logits by half, and the experts' loads oscillate.
    """
    matrices, others, routers = [], [], []
    for name, parameter in model.named_parameters():
        if name.endswith("mlp.gate"):
            routers.append(parameter)
        else:
            (matrices if "layers." in name and parameter.ndim >= 2 else others).append(parameter)
    adam = [{"params": others, "peak": adam_lr}]
    if routers:
        adam.append({"params": routers, "peak": 0.3 * adam_lr})
    return [Muon([{"params": matrices, "peak": muon_lr}]), torch.optim.Adam(adam, betas=(0.9, 0.95), eps=1e-10)]


def learning_rate(step: int, steps: int, warmup: int, decay: float) -> float:
    """Factor on the peak rate: linear warm-up, constant, then linear to zero over the last ``decay`` share."""
    return min(1.0, (step + 1) / warmup, (steps - step) / (decay * steps))
