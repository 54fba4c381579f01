"""DFR: only the last layer is trained again, on as many images of every group (Kirichenko et al., 2023)."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from saywhy.errors import InputError

SUBSETS = 10
"""Balanced subsets whose weights are averaged, as published."""

DECAYS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""Weights of the penalty among which one half of the images chooses for the other half."""


def last_linear(network: nn.Module, run: Callable[[], Tensor]) -> nn.Linear:
    """The linear layer, with biases, whose output is the class scores.

    Args:
        network: the network.
        run: runs it on some images and returns the class scores.

    Raises:
        InputError: the class scores are not the output of a linear layer with biases.

    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> last_linear(network, lambda: network(torch.zeros(1, 4)))
    Linear(in_features=4, out_features=2, bias=True)
    """
    outputs: list[tuple[nn.Linear, Tensor]] = []
    layers = [part for part in network.modules() if isinstance(part, nn.Linear) and part.bias is not None]
    hooks = [part.register_forward_hook(lambda m, _, out: outputs.append((m, out.detach()))) for part in layers]
    try:
        scores = run().detach()
    finally:
        for hook in hooks:
            hook.remove()
    for layer, output in reversed(outputs):
        if output.shape == scores.shape and torch.equal(output, scores):
            return layer
    raise InputError(
        f"DFR trains the last linear layer again, and the class scores of {type(network).__name__} are not the output "
        "of one with biases. Leave 'dfr' out."
    )


def features_of(layer: nn.Linear, run: Callable[[], object]) -> Float[Tensor, "image channel"]:
    """The inputs of a layer while the network runs."""
    found: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, given: found.append(given[0].detach().double().cpu()))
    try:
        with torch.no_grad():
            run()
    finally:
        hook.remove()
    return torch.cat(found)


def retrained(
    features: Float[Tensor, "image channel"],
    labels: Int[Tensor, " image"],
    groups: Int[Tensor, " image"],
    classes: int,
    seed: int = 0,
    names: Sequence[str] = (),
) -> tuple[Float[Tensor, "class channel"], Float[Tensor, " class"], float]:
    """Weights and biases of the last layer, and the penalty that was chosen.

    Features are standardised. The penalty is chosen by the worst-group accuracy on a random half of the images, with
    the layer trained on the other half; then ten balanced subsets of all images each give a layer, whose mean is
    returned.

    Args:
        features: the inputs of the layer.
        labels, groups: of the images.
        classes: the number of outputs.
        seed: of halves and subsets.
        names: of the groups, for a refusal.

    Returns:
        Weights for features that are not standardised.

    Raises:
        InputError: a group has fewer than two images.

    Differs from the paper: the penalty is that of squares, not of absolute values.
    """
    check_group_sizes(groups, names)
    generator = torch.Generator().manual_seed(seed)
    mean, deviation = features.mean(0), features.std(0).clamp_min(1e-8)
    standard = (features - mean) / deviation
    half = torch.zeros(len(groups), dtype=torch.bool)
    for group in groups.unique():  # half of every group, so that each is in both halves
        rows = (groups == group).nonzero().squeeze(1)
        half[rows[torch.randperm(len(rows), generator=generator)[: len(rows) // 2]]] = True
    scores = []
    for decay in DECAYS:
        some = _balanced(groups, half, generator)
        W, b = _logistic(standard[some], labels[some], classes, decay)
        right = (standard[~half] @ W.T + b).argmax(1) == labels[~half]
        scores.append(min(float(right[groups[~half] == g].double().mean()) for g in groups[~half].unique()))
    decay = DECAYS[max(range(len(DECAYS)), key=scores.__getitem__)]
    every = torch.ones_like(half)
    fits = [
        _logistic(standard[some], labels[some], classes, decay)
        for some in (_balanced(groups, every, generator) for _ in range(SUBSETS))
    ]
    W, b = (torch.stack(part).mean(0) for part in zip(*fits, strict=True))
    W = W / deviation
    return W, b - W @ mean, decay


def check_group_sizes(groups: Int[Tensor, " image"], names: Sequence[str] = ()) -> None:
    """Check that every group has an image in both halves of the validation images.

    Args:
        groups: of the validation images.
        names: of the groups; without them a refusal gives their numbers.

    Raises:
        InputError: a group has fewer than two images.
    """
    present, counts = groups.unique(return_counts=True)
    if int(counts.min()) < 2:
        fewest = int(present[counts.argmin()])
        name = f"'{names[fewest]}'" if names else f"group {fewest}"
        raise InputError(
            f"DFR needs two images of every group on 'val', and {name} has "
            f"{int(counts.min())}. Move images from train to val, or leave 'dfr' out."
        )


def _balanced(groups: Tensor, among: Tensor, generator: torch.Generator) -> Tensor:
    """Indices of as many images of every group as the smallest one has."""
    rows = [((groups == g) & among).nonzero().squeeze(1) for g in groups[among].unique()]
    least = min(map(len, rows))
    return torch.cat([some[torch.randperm(len(some), generator=generator)[:least]] for some in rows])


def _logistic(x: Tensor, y: Tensor, classes: int, decay: float) -> tuple[Tensor, Tensor]:
    """Multinomial logistic regression with a penalty on squared weights."""
    W = torch.zeros(classes, x.shape[1], dtype=x.dtype, requires_grad=True)
    b = torch.zeros(classes, dtype=x.dtype, requires_grad=True)
    solver = torch.optim.LBFGS([W, b], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(x @ W.T + b, y) + decay / 2 * W.square().sum()
        loss.backward()
        return loss

    solver.step(closure)
    return W.detach(), b.detach()
