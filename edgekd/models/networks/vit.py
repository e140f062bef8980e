"""A small vision transformer."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class SelfAttention(nn.Module):
    """Multi-head self-attention. Input and output (N, tokens, dim).

    Queries, keys and values are three plain Linear layers. The shape of a head follows from their sizes and the
    scale is fixed at construction, so that removing features of a head acts like setting them to zero.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads) ** -0.5
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.project = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return every token's mixture of all tokens."""
        query = self._split(self.query(x))
        key = self._split(self.key(x))
        value = self._split(self.value(x))
        mixed = functional.scaled_dot_product_attention(query, key, value, scale=self.scale)
        return self.project(mixed.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """Return (N, tokens, features) as (N, heads, tokens, features / heads)."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class TransformerBlock(nn.Module):
    """Pre-norm attention and a two-layer perceptron, each added to its input. Input and output (N, tokens, dim)."""

    def __init__(self, dim: int, heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp_dim), nn.GELU(), nn.Linear(mlp_dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Patches as tokens with a learned position, transformer blocks, and the mean token classified.

    Input (N, in_channels, image_size, image_size); output logits (N, num_classes). The paper classifies
    an extra token; the mean is as good and needs no token that every shape must account for.

    Source: Dosovitskiy et al., An Image is Worth 16x16 Words, 2021; Beyer et al., Better plain ViT baselines, 2022.
    """

    def __init__(
        self,
        image_size: int = 32,
        patch_size: int = 4,
        dim: int = 128,
        depth: int = 6,
        heads: int = 4,
        mlp_dim: int = 256,
        num_classes: int = 10,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if image_size % patch_size or dim % heads:
            raise ValueError(
                f"patch_size {patch_size} must divide image_size {image_size}, and heads {heads} must divide dim {dim}"
            )
        tokens = (image_size // patch_size) ** 2
        self.patches = nn.Conv2d(in_channels, dim, patch_size, patch_size)
        self.position = nn.Parameter(0.02 * torch.randn(1, tokens, dim))
        self.blocks = nn.Sequential(*[TransformerBlock(dim, heads, mlp_dim) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.classifier = nn.Linear(dim, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.position
        return self.classifier(self.norm(self.blocks(tokens)).mean(1))
