"""Muon for the matrices inside, Adam for the rest, with gradients and work shared by all trainer processes."""

import torch
import torch.distributed as dist
from torch import Tensor, nn

MOMENTUM = 0.95
# Coefficients of the quintic Newton-Schulz iteration of Muon: K. Jordan, "Muon: an optimizer for hidden layers", 2024.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
BETAS = (0.9, 0.98)
CLIP = 1.0  # norm of all gradients together


def orthogonalise(matrix: Tensor) -> Tensor:
    """The nearest matrix with all singular values about 1. [rows, columns], any float dtype."""
    a, b, c = NEWTON_SCHULZ
    x = matrix / (matrix.norm() + 1e-7)
    if transposed := x.shape[0] > x.shape[1]:
        x = x.T
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if transposed else x


class Optimizer:
    """One step for all parameters of some modules.

    Args:
        model: what is trained.
        adam: learning rates by what a parameter's name contains, first match counts; a parameter that none matches
            and that has two dimensions goes to Muon.
        muon: learning rates of matrices by prefix of their name.
    """

    def __init__(self, model: nn.Module, adam: dict[str, float], muon: dict[str, float]) -> None:
        named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        self._parameters = [parameter for _, parameter in named]
        self._muon: list[tuple[Tensor, Tensor, float, int]] = []  # parameter, momentum, rate, pieces
        groups = []
        for name, parameter in named:
            rate = next((rate for part, rate in adam.items() if part in name), None)
            if parameter.ndim == 2 and rate is None:
                matrix_rate = next(rate for prefix, rate in muon.items() if name.startswith(prefix))
                pieces = 3 if name.endswith("qkv.weight") else 1
                self._muon.append((parameter, torch.zeros_like(parameter), matrix_rate, pieces))
            else:
                groups.append({"params": [parameter], "lr": adam["other"] if rate is None else rate})
        self._adam = torch.optim.Adam(groups, betas=BETAS)
        self._rates = [group["lr"] for group in self._adam.param_groups]
        self._rank, self._ranks = dist.get_rank(), dist.get_world_size()

    def step(self, scale: float) -> None:
        """Average the gradients over all processes and apply them; `scale` multiplies every learning rate."""
        flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in self._parameters])
        dist.all_reduce(flat)
        flat /= self._ranks
        flat *= min(1.0, CLIP / (float(flat.norm()) + 1e-6))
        for parameter, gradient in zip(
            self._parameters, flat.split([p.numel() for p in self._parameters]), strict=True
        ):
            parameter.grad = gradient.view_as(parameter)
        for group, rate in zip(self._adam.param_groups, self._rates, strict=True):
            group["lr"] = rate * scale
        self._adam.step()
        if self._muon:
            with torch.no_grad():
                self._muon_step(scale)
        for parameter in self._parameters:
            parameter.grad = None

    def _muon_step(self, scale: float) -> None:
        # Each process orthogonalises its share of the matrices; adding up hands everyone all of them.
        updates = [torch.zeros_like(parameter) for parameter, *_ in self._muon]
        for index, (parameter, momentum, _, pieces) in enumerate(self._muon):
            assert parameter.grad is not None
            momentum.lerp_(parameter.grad, 1 - MOMENTUM)
            if index % self._ranks == self._rank:
                aim = parameter.grad.lerp(momentum, MOMENTUM)
                updates[index] = torch.cat([orthogonalise(piece) for piece in aim.chunk(pieces)])
        flat = torch.cat([update.flatten() for update in updates])
        dist.all_reduce(flat)
        sizes = [update.numel() for update in updates]
        for (parameter, _, rate, pieces), update in zip(self._muon, flat.split(sizes), strict=True):
            tall = max(1.0, parameter.shape[0] / pieces / parameter.shape[1]) ** 0.5
            parameter.add_(update.view_as(parameter), alpha=-rate * scale * tall)
