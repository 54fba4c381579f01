"""Networks of a few hundred weights, some of them with an answer that is known by construction."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class AttentionOutput:
    """Scores [batch, class] and the attention of the network, [batch, glimpse, *space]."""

    logits: Tensor
    attention: Tensor


class TinyNetwork(nn.Module):
    """Two convolutions with batch norm and dropout, then a head; the layer to explain is ``features``."""

    def __init__(self, classes: int, head: str, smooth: bool, axes: int) -> None:
        super().__init__()
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
        norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[axes - 1]

        def activation() -> nn.Module:
            return nn.Softplus() if smooth else nn.ReLU(inplace=True)

        self.stem = nn.Sequential(conv(3, 4, 3, padding=1, stride=2), norm(4), activation())
        self.features = nn.Sequential(conv(4, 5, 3, padding=1), activation())
        self.dropout = nn.Dropout(0.5)
        self.kind = head
        self.hidden = nn.Linear(5, 6)
        self.fc = nn.Linear(6 if head == "mlp" else 5, classes)
        self.look = nn.Linear(5, 2) if head == "looking" else None

    @staticmethod
    def build(
        classes: int = 4,
        head: str = "mlp",
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        smooth: bool = False,
        axes: int = 2,
    ) -> "TinyNetwork":
        """A network with seeded weights, in evaluation mode.

        Args:
            classes: how many scores.
            head: ``"linear"`` pools and multiplies (CAM's form); ``"mlp"`` weights positions before it pools, so that
                the gradient differs from position to position; ``"looking"`` returns its attention, two glimpses.
            seed: of the weights.
            dtype: of the weights.
            smooth: softplus instead of ReLU, so that finite differences agree with derivatives.
            axes: 1 for signals, 2 for images, 3 for volumes.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = TinyNetwork(classes, head, smooth, axes)
            for module in network.modules():
                if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
                    module.running_mean.normal_(0, 0.3)
                    module.running_var.uniform_(0.5, 2)
        return network.to(dtype).eval()

    def forward(self, images: Tensor) -> Tensor | AttentionOutput:
        features = self.dropout(self.features(self.stem(images)))
        if self.look is not None:
            glimpses = self.look(features.flatten(2).mT).mT.softmax(-1)
            found = (glimpses @ features.flatten(2).mT).mean(1)
            return AttentionOutput(self.fc(found), glimpses.unflatten(2, features.shape[2:]))
        if self.kind == "linear":
            return self.fc(features.flatten(2).mean(-1))
        # Squares see where a channel is strong: the gradient is then 2 A / Z, different at every place.
        pooled = (features.flatten(2) ** 2).mean(-1) + features.flatten(2).mean(-1)
        return self.fc(torch.tanh(self.hidden(pooled)))


class OneQuadrant(nn.Module):
    """Looks at the top right quadrant of its features and at nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.ReLU())
        with torch.no_grad():
            self.features[0].weight.copy_(torch.eye(3)[:, :, None, None])

    def forward(self, images: Tensor) -> Tensor:
        features = self.features(images)
        height, width = features.shape[2] // 2, features.shape[3] // 2
        glimpses = features[:, :, :height, width:].sum((2, 3))
        return torch.stack([glimpses[:, 0] + 2 * glimpses[:, 1], glimpses[:, 2], -glimpses[:, 0]], dim=1)


class LinearNetwork(nn.Module):
    """A linear layer over every value of a feature map: the score is the sum of weight times feature, plus a bias."""

    def __init__(self, side: int = 6, classes: int = 3) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(4 * side * side, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.features(images).flatten(1))


class TinyBlock(nn.Module):
    """Attention and a feed-forward part, both with a way round them; ``softmax`` is a module, for hooks to see it."""

    def __init__(self, channels: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.norm = nn.LayerNorm(channels)
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.softmax, self.dropout = nn.Softmax(dim=-1), nn.Dropout(0.5)
        self.mlp = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, channels), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(self.norm(x)).chunk(3, -1))
        if self.fused:
            glimpses = nn.functional.scaled_dot_product_attention(q, k, v)
        else:
            glimpses = self.dropout(self.softmax(q @ k.mT / q.shape[-1] ** 0.5)) @ v
        x = x + self.proj(glimpses.transpose(1, 2).flatten(2))
        return x + self.mlp(x)


class TinyTransformer(nn.Module):
    """Patches of 2 pixels a side, two blocks of two heads, a linear head; the layer of tokens is ``features``."""

    def __init__(self, classes: int, axes: int, class_token: bool, registers: int, fused: bool) -> None:
        super().__init__()
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
        self.stem = nn.Sequential(conv(3, 8, 2, stride=2))
        self.class_token, self.extra = class_token, nn.Parameter(torch.randn(1, class_token + registers, 8))
        self.features = nn.Sequential(nn.Linear(8, 8), TinyBlock(8, 2, fused))
        self.last = TinyBlock(8, 2, fused)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(8, classes)

    @property
    def blocks(self) -> tuple[TinyBlock, ...]:
        """In the order of running."""
        return self.features[1], self.last

    @staticmethod
    def build(
        classes: int = 4,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        axes: int = 2,
        class_token: bool = True,
        registers: int = 0,
        fused: bool = False,
    ) -> "TinyTransformer":
        """A network with seeded weights, in evaluation mode; the class token and the registers stand first."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = TinyTransformer(classes, axes, class_token, registers, fused)
            for block in network.blocks:  # attention of random weights is nearly even
                block.qkv.weight.data *= 3
        return network.to(dtype).eval()

    def forward(self, images: Tensor) -> Tensor:
        patches = self.stem(images).flatten(2).mT
        x = self.last(self.features(torch.cat([self.extra.expand(len(patches), -1, -1), patches], 1)))
        # What the class token says, or the mean of the patches; of the registers, never anything.
        return self.fc(self.dropout(torch.tanh(x[:, 0] if self.class_token else x[:, self.extra.shape[1] :].mean(1))))
