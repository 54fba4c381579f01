"""Networks whose evidence is planted: class ``k`` is the amount of colour ``k``, seen where it is.

Weights are set by hand, with small random weights beside them. Erasing the objects of a colour therefore erases the
evidence for its class, and a correct map of the class lies on them.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

CLASSES = 3
CHANNELS = 8
CONVOLUTIONS: tuple[type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
Function = Callable[[Tensor], Tensor]


def noise(weight: Tensor, size: float) -> Tensor:
    """Return small random weights of the same shape."""
    return torch.randn_like(weight) * size


class Colours(nn.Module):
    """Features [batch, 8, *grid] of an image [batch, 3, *space]: colour ``k`` of every patch in channel ``k``.

    A convolution whose stride is its kernel's size, an activation, and a convolution of 3 cells with an activation.
    Activations are modules, or functions where ``act`` is given.
    """

    def __init__(self, patch: Sequence[int], act: Function | None = None, colours: int = CLASSES) -> None:
        super().__init__()
        convolution = CONVOLUTIONS[len(patch) - 1]
        self.patches = convolution(colours, CHANNELS, tuple(patch), tuple(patch))  # type: ignore[arg-type]
        self.mix = convolution(CHANNELS, CHANNELS, 3, padding=1)
        with torch.no_grad():
            area = self.patches.weight[0, 0].numel()
            self.patches.weight.copy_(noise(self.patches.weight, 0.1 / area))
            for k in range(colours):
                self.patches.weight[k] = -0.4 / area
                self.patches.weight[k, k] = 1 / area
            self.patches.bias.fill_(-0.05)  # type: ignore[union-attr]
            nn.init.dirac_(self.mix.weight)
            self.mix.weight += noise(self.mix.weight, 0.02)
            nn.init.zeros_(self.mix.bias)  # type: ignore[arg-type]
        self.act1, self.act2 = (nn.ReLU(), nn.ReLU()) if act is None else (act, act)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.act2(self.mix(self.act1(self.patches(x))))
        return found


def class_head(channels: int = CHANNELS, classes: int = CLASSES) -> nn.Linear:
    """Return a linear layer whose class ``k`` is channel ``k``, with small other weights."""
    head = nn.Linear(channels, classes)
    with torch.no_grad():
        head.weight.copy_(noise(head.weight, 0.2))
        head.weight[:, :classes] += 20 * torch.eye(classes)
        head.bias.copy_(noise(head.bias, 0.1))
    return head


class Classifier(nn.Module):
    """Colours of the image after ``change``, pooled, and scores [batch, 3]."""

    def __init__(self, patch: Sequence[int], change: Function | None = None, act: Function | None = None) -> None:
        super().__init__()
        self.change, self.features, self.head = change, Colours(patch, act), class_head()

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.change is None else self.change(x)
        found: Tensor = self.head(self.features(x).flatten(2).mean(2))
        return found


class Tokens(nn.Module):
    """Colours of patches as tokens, between ``prefix`` and ``suffix`` others, through a residual block.

    Args:
        patch: the size of a patch.
        prefix, suffix: the numbers of learnt tokens before and after those of the patches.
        order: ``"tokens"`` [batch, token, channel], ``"tokens-last"`` [batch, channel, token], ``"batch-second"``
            [token, batch, channel].
        readout: ``"mean"`` of all tokens, or ``"class"``: the first (else last) learnt token, after attention.
    """

    def __init__(self, patch: Sequence[int], prefix: int, suffix: int, order: str, readout: str) -> None:
        super().__init__()
        self.features, self.prefix, self.order, self.readout = Colours(patch), prefix, order, readout
        self.extra = nn.Parameter(torch.rand(prefix + suffix, CHANNELS) * 0.05)
        self.tokens, self.norm = nn.Identity(), nn.Identity()
        self.block = nn.Sequential(nn.Linear(CHANNELS, 16), nn.GELU(), nn.Linear(16, CHANNELS))
        with torch.no_grad():
            self.block[2].weight.mul_(0.1)
            self.block[2].bias.zero_()
        self.attention = Attention()
        self.head = class_head()

    def ordered(self, x: Tensor) -> Tensor:
        """Return tokens [batch, token, channel] in the network's order, or those back again."""
        return {"tokens": x, "tokens-last": x.mT, "batch-second": x.transpose(0, 1)}[self.order]

    def forward(self, x: Tensor) -> Tensor:
        patches = self.features(x).flatten(2).mT
        extra = self.extra.expand(len(x), -1, -1)
        x = torch.cat([extra[:, : self.prefix], patches, extra[:, self.prefix :]], 1)
        x = self.ordered(self.tokens(self.ordered(x)))
        x = x + self.block(x)
        x = self.ordered(self.norm(self.ordered(x)))
        pooled = x.mean(1) if self.readout == "mean" else self.attention(x)[:, 0 if self.prefix else -1]
        found: Tensor = self.head(pooled)
        return found


class Attention(nn.Module):
    """Every token gets the mean of all: attention whose queries are zero."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Linear(CHANNELS, CHANNELS)
        with torch.no_grad():
            self.value.weight.copy_(torch.eye(CHANNELS) + noise(self.value.weight, 0.02))
            self.value.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        weights = x.new_zeros(len(x), x.shape[1], x.shape[1]).softmax(-1)
        return weights @ self.value(x)


class Members(nn.Module):
    """Several branches, each of which pools its features over one strip of the width, from left to right.

    Args:
        patch: the size of a patch.
        count: the number of branches.
        how: ``"sum"`` and ``"mean"`` of the members' scores, ``"concatenated"`` features before one head, ``"heads"``
            class ``k`` by branch ``k``, ``"routed"`` an image of positive mean by the first branch, others by the last.
        stem: a layer before the branches.
    """

    def __init__(self, patch: Sequence[int], count: int, how: str, stem: bool) -> None:
        super().__init__()
        self.count, self.how = count, how
        self.stem = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()) if stem else None
        if self.stem is not None:
            nn.init.dirac_(self.stem[0].weight)
            nn.init.zeros_(self.stem[0].bias)
        self.branches = nn.ModuleList(Colours(patch) for _ in range(count))
        self.heads = nn.ModuleList(class_head() for _ in range(count))

    def strip(self, width: int, member: int) -> slice:
        """Return the columns that a member sees, of an image or of its features."""
        return slice(width * member // self.count, width * (member + 1) // self.count)

    def features(self, x: Tensor, member: int) -> Tensor:
        """Return the features of a member, pooled over its strip."""
        features: Tensor = self.branches[member](x)
        return features[..., self.strip(features.shape[3], member)].mean((2, 3))

    def score(self, x: Tensor, member: int) -> Tensor:
        """Return the scores of a member."""
        found: Tensor = self.heads[member](self.features(x, member))
        return found

    def forward(self, x: Tensor) -> Tensor:
        positive = x.mean((1, 2, 3)) > 0
        x = x if self.stem is None else self.stem(x)
        if self.how == "routed":
            out = x.new_zeros(len(x), CLASSES)
            for member, rows in ((0, positive), (self.count - 1, ~positive)):
                if bool(rows.any()):
                    out[rows] = self.score(x[rows], member)
            return out
        if self.how == "concatenated":
            features = [self.features(x, member) for member in range(self.count)]
            joined: Tensor = self.heads[0](torch.stack(features).sum(0))
            return joined
        scores = torch.stack([self.score(x, member) for member in range(self.count)])
        if self.how == "heads":
            return torch.stack([scores[k % self.count, :, k] for k in range(CLASSES)], 1)
        return scores.sum(0) if self.how == "sum" else scores.mean(0)


class Folded(nn.Module):
    """A classifier of images that takes them in another arrangement, and averages over frames, views or tiles.

    Args:
        patch: the size of a patch.
        axes: ``"b t c h w"``, ``"t b c h w"``, ``"b h w c"``, ``"tile c h w"`` (one bag), ``"b f t"`` and the like.
    """

    def __init__(self, patch: Sequence[int], axes: str, colours: int = CLASSES) -> None:
        super().__init__()
        self.axes, self.features, self.head = (
            axes.split(),
            Colours(patch, colours=colours),
            class_head(CHANNELS, colours),
        )
        self.rank = len(patch)

    def forward(self, x: Tensor) -> Tensor:
        axes = list(self.axes)
        if "c" not in axes:
            x, axes = x.unsqueeze(-1), [*axes, "c"]
        bag = "b" not in axes
        if bag:
            x, axes = x.unsqueeze(0), ["b", *axes]
        space = [axis for axis in axes if axis not in ("b", "c")]
        folded, space = space[: len(space) - self.rank], space[len(space) - self.rank :]
        x = x.permute(*(axes.index(axis) for axis in ("b", *folded, "c", *space)))
        batch = x.shape[0]
        x = self.features(x.flatten(0, len(folded))).flatten(2).mean(2)
        found: Tensor = self.head(x.unflatten(0, (batch, -1)).mean(1))
        return found


class Compared(nn.Module):
    """Images compared with words: scores [image, word], the colour of the word in the image."""

    def __init__(self, patch: Sequence[int]) -> None:
        super().__init__()
        self.features = Colours(patch)
        self.words = nn.Embedding(CLASSES, CHANNELS)
        with torch.no_grad():
            self.words.weight.copy_(noise(self.words.weight, 0.2))
            self.words.weight[:, :CLASSES] += 20 * torch.eye(CLASSES)

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        return self.features(image).mean((2, 3)) @ self.words(text[:, 0]).T


class Asked(Compared):
    """Each image with its own word: scores [image, 2], yes and no."""

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        yes = (self.features(image).mean((2, 3)) * self.words(text[:, 0])).sum(1)
        return torch.stack([yes, -yes], 1)


class Ending(nn.Module):
    """A classifier that returns what ``end`` makes of its pooled features and scores."""

    def __init__(self, patch: Sequence[int], end: Callable[[Tensor, Tensor], object]) -> None:
        super().__init__()
        self.body, self.head, self.end = Colours(patch), class_head(), end

    def forward(self, x: Tensor) -> object:
        pooled = self.body(x).mean((2, 3))
        return self.end(pooled, self.head(pooled))


class Skips(nn.Module):
    """Colours, then blocks of random weights beside which the features pass on.

    Args:
        patch: the size of a patch.
        blocks: their number.
        how: ``"added"`` x + block(x), ``"concatenated"`` [x, block(x)], ``"gated"`` x * sigmoid(block(x)).
        after: what follows the blocks: ``"nothing"``, ``"identity"``, ``"norm"`` (batch normalization) or ``"relu"``.
        dense: scores for every cell [batch, 3, *grid], in place of the pooled ones.
    """

    def __init__(self, patch: Sequence[int], blocks: int, how: str, after: str, *, dense: bool = False) -> None:
        super().__init__()
        self.how, self.dense = how, dense
        self.features = Colours(patch)
        widths = [CHANNELS * 2**i if how == "concatenated" else CHANNELS for i in range(blocks + 1)]
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 1))
            for width in widths[:-1]
        )
        with torch.no_grad():
            for block in self.blocks:
                block[2].weight.mul_(0.1)  # type: ignore[index, operator, union-attr]
        width = widths[-1]
        last = {"nothing": None, "identity": nn.Identity(), "norm": nn.BatchNorm2d(width), "relu": nn.ReLU()}
        self.after = last[after]
        head = class_head(width)
        self.head: nn.Module = head
        if dense:
            self.head = nn.Conv2d(width, CLASSES, 1)
            self.head.weight.data.copy_(head.weight.data[..., None, None])

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        for block in self.blocks:
            found = block(x)
            if self.how == "concatenated":
                x = torch.cat([x, found], 1)
            else:
                x = x + found if self.how == "added" else x * found.sigmoid()
        x = x if self.after is None else self.after(x)
        scores: Tensor = self.head(x if self.dense else x.mean((2, 3)))
        return scores


class Dense(nn.Module):
    """Scores of every cell in another form: ``"map"``, ``"dict"`` {"out": map}, ``"mask"`` (map, mean), ``"boxes"``.

    ``"boxes"`` gives a dict for each image, as torchvision's detectors do: the best cell of every class. ``size`` is
    that of the map after bilinear interpolation.
    """

    def __init__(self, body: nn.Module, form: str, size: Sequence[int] | None) -> None:
        super().__init__()
        self.body, self.form, self.size = body, form, size

    def forward(self, x: Tensor) -> object:
        maps: Tensor = self.body(x)
        if self.form == "boxes":
            best = maps.flatten(2).max(2)
            width = maps.shape[3]
            corners = torch.stack([best.indices % width, best.indices // width], -1).to(maps) * 8
            labels = torch.arange(maps.shape[1])
            return [
                {"boxes": torch.cat([corner, corner + 8], 1), "scores": (score / 5).sigmoid(), "labels": labels}
                for corner, score in zip(corners, best.values, strict=True)
            ]
        if self.size is not None:
            maps = nn.functional.interpolate(maps, tuple(self.size), mode="bilinear")
        return {"out": maps} if self.form == "dict" else (maps, maps.mean((2, 3))) if self.form == "mask" else maps
