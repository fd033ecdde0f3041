"""An EAGLE-style draft head: one dense decoder layer that continues the target's features.

After EAGLE (Li et al., 2024). f_t is the target's output at position t after its final norm, that is what
its output matrix multiplies:

    x_t = fc [embedding of token t+1 ; f_t]        f'_{t+1} = layer(x)_t        logits of token t+2 = lm_head f'_{t+1}

Embedding and output matrix are the target's. While drafting, f' takes the place of features that the
target has not computed yet. The layer is a `Layer` without experts; its output has no norm of its own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sw_stack.models.training.model import Decoder, Layer, ModelShape, initial
from sw_stack.models.training.operators import low, rms_norm, rope_tables


class EagleHead(nn.Module):
    """``fc`` and one layer; ``shape`` has ``layers`` 1, ``experts`` 0 and the target's ``hidden`` and ``vocab``."""

    def __init__(self, shape: ModelShape):
        super().__init__()
        self.shape = shape
        self.fc = nn.Parameter(initial(shape.hidden, 2 * shape.hidden))
        self.layers = nn.ModuleList([Layer(shape)])

    def forward(self, embedded: Tensor, features: Tensor) -> Tensor:
        """Next features (batch, length, hidden) from embeddings of the next token and features, both so shaped."""
        x = F.linear(low(torch.cat((embedded, features), -1)), low(self.fc)).float()
        rope = rope_tables(self.shape.head_dim, self.shape.rope_theta, x.shape[1], x.device)
        return self.layers[0](x, rope)


def target_features(target: Decoder, tokens: Tensor) -> Tensor:
    """What the target's output matrix multiplies: (batch, length, hidden)."""
    return rms_norm(target.features(tokens), target.norm, target.shape.norm_eps)


def head_loss(head: EagleHead, target: Decoder, tokens: Tensor, noise: float) -> tuple[Tensor, dict]:
    """Distillation loss on tokens (batch, context + 1).

    Cross entropy against the target's own distribution plus smooth L1 distance of the features. Uniform
    noise on the input features, +-``noise`` x their RMS, stands for the errors that drafting feeds back.

    Returns
    -------
    loss : scalar
    figures : "agreement" = share of positions where head and target prefer the same token.
    """
    with torch.no_grad():
        features = target_features(target, tokens[:, :-1])
        embedded = F.embedding(tokens[:, 1:-1], target.embed_tokens)
        wanted = features[:, 1:]
        wanted_logits = F.linear(low(wanted), low(target.lm_head)).float()
    given = features[:, :-1]
    if noise:
        given = given + (torch.rand_like(given) * 2 - 1) * noise * given.square().mean().sqrt()
    drafted = head(embedded, given)
    logits = F.linear(low(drafted), low(target.lm_head.detach())).float()
    entropy = F.cross_entropy(logits.flatten(0, 1), wanted_logits.softmax(-1).flatten(0, 1))
    agreement = (logits.argmax(-1) == wanted_logits.argmax(-1)).float().mean().item()
    return entropy + F.smooth_l1_loss(drafted, wanted), {"loss": entropy.item(), "agreement": agreement}


def head_weights(head: EagleHead) -> dict[str, Tensor]:
    """Every tensor by name: ``fc.weight`` and ``layers.0.*.weight``."""
    return {f"{name}.weight": tensor.detach() for name, tensor in head.named_parameters()}


def load_head(shape: ModelShape, weights: dict[str, Tensor]) -> EagleHead:
    """A head with stored weights."""
    head = EagleHead(shape)
    for name, target in head_weights(head).items():
        target.copy_(weights[name])
    return head.requires_grad_(False)
