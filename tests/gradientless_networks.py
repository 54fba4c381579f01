"""Small networks whose scores have no gradient with respect to their features, each for one planted reason."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import relu
from torch.utils.checkpoint import checkpoint


def features(channels: int = 8) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, stride=2, padding=1),
        nn.ReLU(),
    )


class Plain(nn.Module):
    """Two convolutions, a mean and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.fc = features(), nn.Linear(8, 5)

    def head(self, x: Tensor) -> Tensor:
        return self.fc(x.mean((2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Detached(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).detach())


class Data(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).data)


class Functional(nn.Module):
    """Rectifiers as functions; ``cut`` stands between the features and the head, and one more rectifier is not used."""

    def __init__(self, cut: Callable[[Tensor], Tensor] = Tensor.detach, *, inplace: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.beside, self.fc = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 5)
        self.cut, self.inplace = cut, inplace

    def features(self, x: Tensor) -> Tensor:
        return relu(self.last(relu(self.first(x))), inplace=self.inplace)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        relu(self.beside(x))
        return self.fc(self.cut(x).mean((2, 3)))


class FunctionalBackbone(Functional):
    """The same, with a backbone that runs without gradients."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.features(x)
        return self.fc(x.mean((2, 3)))


class FrozenBackbone(Plain):
    """The backbone runs without gradients, the head with them."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.features(x)
        return self.head(x)


class Frozen(Plain):
    """The whole network runs without gradients."""

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x * 2 - 1))


class Inference(Plain):
    def forward(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            return self.head(self.features(x))


class FrozenHead(Plain):
    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        with torch.no_grad():
            return self.head(x)


class TrainedNeck(Plain):
    """A backbone without gradients, and feature maps with them."""

    def __init__(self) -> None:
        super().__init__()
        self.neck = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.features(x)
        return self.head(self.neck(x))


class Necks(Plain):
    """A backbone without gradients, and two branches of feature maps behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.right = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.features(x)
        return self.both(x)

    def both(self, x: Tensor) -> Tensor:
        return self.head(self.left(x)) + self.head(self.right(x))


class Numpy(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.from_numpy(self.features(x).detach().numpy()))


class Lists(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor(self.head(self.features(x)).tolist())


class Steps(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.features(x) > 0.1).float())


class Winner(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.one_hot(self.head(self.features(x)).argmax(1), 5).float()


class Opaque(Plain):
    """A function of its own, written without a derivative."""

    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            found = 2 * x
            ctx.mark_non_differentiable(found)
            return found

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> None:
            return None

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.Twice.apply(self.features(x)))


class Checkpointed(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(checkpoint(self.features, x, use_reentrant=True))


class CheckpointedHead(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.head, self.features(x), use_reentrant=True)


class UnusedBranch(Detached):
    """A deeper branch that changes no score, beside the detached one."""

    def __init__(self) -> None:
        super().__init__()
        self.beside = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        self.beside(x)
        return self.head(x.detach())


@dataclass
class Levels:
    fine: Tensor
    coarse: Tensor


class Encoder(nn.Module):
    """Gives two levels of features, as one of four kinds of value."""

    def __init__(self, kind: type) -> None:
        super().__init__()
        self.kind, (self.fine, self.coarse) = kind, (features()[:2], features()[2:])

    def forward(self, x: Tensor) -> Any:
        fine = self.fine(x)
        coarse = self.coarse(fine)
        if self.kind is dict:
            return {"fine": fine, "coarse": coarse}
        return Levels(fine, coarse) if self.kind is Levels else self.kind((fine, coarse))


class OnEncoder(nn.Module):
    """Reads the second level only."""

    def __init__(self, kind: type) -> None:
        super().__init__()
        self.encoder, self.fc = Encoder(kind), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        levels = self.encoder(x)
        coarse = levels.coarse if isinstance(levels, Levels) else levels["coarse" if isinstance(levels, dict) else 1]
        return self.fc(coarse.mean((2, 3)))


def int8() -> nn.Module:
    """A network whose head is quantized."""
    found: nn.Module = torch.ao.quantization.quantize_dynamic(Plain().eval(), {nn.Linear})
    return found


class OwnFunction(Plain):
    """A differentiable function of its own, and a cut behind it."""

    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(x: Tensor) -> Tensor:
            return 2 * x

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None: ...

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            return 2 * gradients[0]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.Twice.apply(self.features(x)).detach())
