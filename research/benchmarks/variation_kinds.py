"""Kinds of networks and inputs with planted truth, each a strategy of Hypothesis that draws variations of it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from research.benchmarks.planted_networks import (
    CLASSES,
    Asked,
    Classifier,
    Compared,
    Dense,
    Ending,
    Folded,
    Members,
    Skips,
    Tokens,
)
from research.benchmarks.planted_scenes import (
    METHODS,
    Ask,
    Box,
    Truth,
    Variation,
    dark,
    plain,
    scene,
    seeded,
    target_of,
    truths,
)

sides = st.integers(6, 14).map(lambda cells: 8 * cells)


@st.composite
def changed_images(draw: st.DrawFn) -> Variation:
    """Networks that crop, pad, letterbox, resize or mirror their image inside ``forward``."""
    height, width = draw(sides), draw(sides)
    how = draw(
        st.sampled_from(["crop", "pad", "letterbox", "resize", "resized crop", "mirrored crop", "roll", "transpose"])
    )
    region: Box = ((0, height), (0, width))
    scale = (1.0, 1.0)
    if how in ("crop", "resized crop", "mirrored crop"):
        ends = []
        for size in (height, width):
            kept = draw(st.integers(max(24, int(0.3 * size)), size))
            start = draw(st.integers(0, size - kept))
            ends.append((start, start + kept))
        (top, bottom), (left, right) = region = (ends[0], ends[1])
        new = (draw(sides), draw(sides)) if how == "resized crop" else (bottom - top, right - left)
        flips = draw(st.sampled_from([(2,), (3,), (2, 3)])) if how == "mirrored crop" else ()

        def change(x: Tensor) -> Tensor:
            x = x[..., top:bottom, left:right]
            x = interpolate(x, new, mode="bilinear") if new != tuple(x.shape[2:]) else x
            return x.flip(flips) if flips else x

        scale = ((bottom - top) / new[0], (right - left) / new[1])
        text = f"{how} {top}:{bottom}, {left}:{right} to {new} {flips}"
    elif how == "pad":
        edges = tuple(draw(st.integers(0, 40)) for _ in range(4))

        def change(x: Tensor) -> Tensor:
            return pad(x, edges)

        text = f"pad {edges}"
    elif how == "letterbox":
        square = draw(sides)

        def change(x: Tensor) -> Tensor:
            side = max(x.shape[2:])
            above, left = (side - x.shape[2]) // 2, (side - x.shape[3]) // 2
            x = pad(x, (left, side - x.shape[3] - left, above, side - x.shape[2] - above))
            return interpolate(x, (square, square), mode="bilinear")

        scale = (max(height, width) / square,) * 2
        text = f"letterbox to {square}"
    elif how == "resize":
        new = (draw(sides), draw(sides))

        def change(x: Tensor) -> Tensor:
            return interpolate(x, new, mode="bilinear")

        scale = (height / new[0], width / new[1])
        text = f"resize to {new}"
    elif how == "roll":
        by = (draw(st.integers(16, height - 16)), draw(st.integers(16, width - 16)))

        def change(x: Tensor) -> Tensor:
            return x.roll(by, (2, 3))

        text = f"roll {by}"
    else:

        def change(x: Tensor) -> Tensor:
            return x.mT

        text = "transpose"
    cell = (max(1.0, 8 * scale[0]), max(1.0, 8 * scale[1]))
    shown = scene(draw, (height, width), [max(4, round(c)) for c in cell], region)
    network = seeded(draw, lambda: Classifier((8, 8), change))
    return Variation("changed images", f"{height}×{width}, {text}", network, [plain(draw, network, [shown], cell)])


@st.composite
def branches(draw: st.DrawFn) -> Variation:
    """Networks with branches, asked several times: other samples, other targets."""
    count, how = draw(st.integers(2, 3)), draw(st.sampled_from(["sum", "mean", "concatenated", "heads", "routed"]))
    height, width = draw(sides), 8 * count * draw(st.integers(4, 6))
    network = seeded(draw, lambda: Members((8, 8), count, how, stem=draw(st.booleans())))
    assert isinstance(network, Members)
    asks = []
    for _ in range(draw(st.integers(1, 3))):
        scenes = [dark(draw, height, width) for _ in range(draw(st.integers(1, 3)))]
        targets = draw(st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=2, unique=True))
        for one in scenes:
            bright = draw(st.booleans())
            for kind in targets:
                for _ in range(draw(st.integers(1, 2))):
                    member = {"heads": kind % count, "routed": 0 if bright else count - 1}.get(how)
                    member = draw(st.integers(0, count - 1)) if member is None else member
                    columns = network.strip(width, member)
                    one.add(draw, kind, (8, 8), ((0, height), (columns.start, columns.stop)))
            if how == "routed" and not bright:  # the last branch does not look at the first strip
                one.image[:, :, network.strip(width, 0)] = -1.0
        options = {"target": targets if len(targets) > 1 else targets[0], "method": draw(st.sampled_from(METHODS))}
        inputs = torch.stack([one.image for one in scenes])
        asks.append(Ask(inputs, options, truths(scenes, targets, (8, 8))))
    return Variation("branches", f"{count} branches, {how}, {height}×{width}, {len(asks)} asks", network, asks)


@st.composite
def tokens(draw: st.DrawFn) -> Variation:
    """Transformers with tokens before and after those of the image, in any order."""
    grid = (draw(st.integers(2, 12)), draw(st.integers(2, 12)))
    patch = (draw(st.sampled_from([4, 8, 16])), draw(st.sampled_from([4, 8, 16])))
    prefix, suffix = draw(st.integers(0, 5)), draw(st.integers(0, 4))
    order = draw(st.sampled_from(["tokens", "tokens", "tokens-last", "batch-second"]))
    readout = draw(st.sampled_from(["mean", "class"])) if prefix + suffix else "mean"
    space = (grid[0] * patch[0], grid[1] * patch[1])
    network = seeded(draw, lambda: Tokens(patch, prefix, suffix, order, readout))
    scenes = [scene(draw, space, patch) for _ in range(draw(st.integers(1, 2)))]
    if not set.intersection(*(set(one.boxes) for one in scenes)):
        scenes = scenes[:1]
    text = f"{prefix} + {grid[0]}×{grid[1]} + {suffix}, patches {patch}, {order}, {readout}"
    return Variation("tokens", text, network, [plain(draw, network, scenes, patch)])


ARRANGED = {
    "b t c h w": 2, "b v c h w": 2, "t b c h w": 2, "b h w c": 2, "tile c h w": 2, "b c t h w": 3, "b c d h w": 3,
    "b t c": 1, "b c l": 1, "b l": 1, "b t f": 2, "b c h w": 2,
}  # fmt: skip
"""Axes of inputs, and how many of them a cell of the network has."""


@st.composite
def arranged_inputs(draw: st.DrawFn) -> Variation:
    """Inputs of frames, views, tiles, volumes, signals and spectrograms, declared or not."""
    axes = draw(st.sampled_from(list(ARRANGED)))
    declared = draw(st.booleans())
    names, rank = axes.split(), ARRANGED[axes]
    own = [name for name in names if name not in ("b", "c")]
    patch = tuple(draw(st.sampled_from([2, 4] if rank == 3 else [4, 8])) for _ in range(rank))
    cell = (1,) * (len(own) - rank) + patch
    space = tuple(draw(st.integers(2, 6)) if size == 1 else size * draw(st.integers(4, 8)) for size in cell)
    colours = 3 if "c" in names else 1
    count = draw(st.integers(1, 3)) if "b" in names else 1
    network = seeded(draw, lambda: Folded(patch, axes, colours))
    scenes = [dark(draw, *space) for _ in range(count)]
    target = draw(st.integers(0, colours - 1))
    for one in scenes:
        one.add(draw, target, cell)
        if colours > 1:
            one.add(draw, (target + 1) % colours, cell)
    x = torch.stack([one.image for one in scenes])  # [batch, colour, *space]
    x = x.unflatten(0, (count,))
    present = ["b", "c", *own]
    if "c" not in names:
        x, present = x[:, target : target + 1].squeeze(1), ["b", *own]
    if "b" not in names:
        x, present = x[0], present[1:]
    x = x.permute(*(present.index(name) for name in names)).contiguous()
    options = {"target": target, "method": draw(st.sampled_from(METHODS))} | ({"axes": axes} if declared else {})
    text = f"{axes} {tuple(x.shape)}, {'declared' if declared else 'not declared'}, patches {patch}"
    return Variation("arranged inputs", text, network, [Ask(x, options, truths(scenes, [target], cell))])


ENDS: dict[str, tuple[Callable[[Tensor, Tensor], object], Callable[[Tensor], Tensor] | None]] = {
    "logits": (lambda f, y: y, lambda y: y.softmax(1)),
    "softmax": (lambda f, y: y.softmax(1), lambda y: y.softmax(1)),
    "log-softmax": (lambda f, y: y.log_softmax(1), lambda y: y.softmax(1)),
    "sigmoid": (lambda f, y: y.sigmoid(), lambda y: y.sigmoid()),
    "features, logits": (lambda f, y: (f, y), lambda y: y.softmax(1)),
    "logits, features": (lambda f, y: (y, f), lambda y: y.softmax(1)),
    "features of as many channels": (lambda f, y: (f[:, :CLASSES].flip(1), y), lambda y: y.softmax(1)),
    "dict": (lambda f, y: {"embedding": f, "logits": y}, lambda y: y.softmax(1)),
    "unnamed dict": (lambda f, y: {"a": f, "b": y}, lambda y: y.softmax(1)),
    "logits and probabilities": (lambda f, y: (y, y.softmax(1)), lambda y: y.softmax(1)),
    "two heads": (lambda f, y: (y.flip(1), y), None),
    "value and policy": (lambda f, y: {"value": f[:, :1], "policy": y}, lambda y: y.softmax(1)),
    "nested": (lambda f, y: {"head": [y], "aux": {"features": f}}, lambda y: y.softmax(1)),
    "per cell": (lambda f, y: y[:, :, None, None], None),
}
"""What networks return: of features and scores, and the probabilities that belong to it where they are certain."""


@st.composite
def outputs(draw: st.DrawFn) -> Variation:
    """Networks that return several tensors, probabilities or dicts, with labels or without."""
    name = draw(st.sampled_from(list(ENDS)))
    end, probability = ENDS[name]
    space = (draw(sides), draw(sides))
    network = seeded(draw, lambda: Ending((8, 8), end))
    assert isinstance(network, Ending)
    labelled = draw(st.booleans())
    one = scene(draw, space, (8, 8))
    ask = plain(draw, network, [one], (8, 8))
    with torch.no_grad():
        network.eval()
        y = network.head(network.body(ask.inputs).mean((2, 3)))
    target = ask.options["target"]
    expected = None if probability is None else float(probability(y)[0, target])
    truth = {key: Truth(value.boxes, value.cell, expected) for key, value in ask.truth.items()}
    options = dict(ask.options)
    if labelled:
        network.labels = ["red", "green", "blue"]  # type: ignore[assignment]
    asks = [Ask(ask.inputs, options, truth)]
    return Variation("outputs", f"{name}, {'labels' if labelled else 'no labels'}, {space}", network, asks)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "Tensor.relu_": lambda x: x.relu_(),
    "clamp": lambda x: x.clamp(min=0),
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "where": lambda x: torch.where(x > 0, x, 0.0),
    "relu6": nn.functional.relu6,
    "hardtanh": lambda x: nn.functional.hardtanh(x, 0.0, 6.0),
    "softplus": lambda x: nn.functional.softplus(x, 8.0),
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
    "square": lambda x: x.relu().square(),
    "sqrt": lambda x: (x.relu() + 1e-4).sqrt() - 1e-2,
}


@st.composite
def activations(draw: st.DrawFn) -> Variation:
    """Networks whose activations are functions."""
    name = draw(st.sampled_from(list(ACTIVATIONS)))
    space = (draw(sides), draw(sides))
    network = seeded(draw, lambda: Classifier((8, 8), act=ACTIVATIONS[name]))
    shown = scene(draw, space, (8, 8))
    return Variation("activations", f"{name}, {space}", network, [plain(draw, network, [shown], (8, 8))])


@st.composite
def several_inputs(draw: st.DrawFn) -> Variation:
    """Images with words: of all images (CLIP), or one for each; positional or by name, in parts."""
    shared = draw(st.booleans())
    space = (draw(sides), draw(sides))
    network = seeded(draw, lambda: Compared((8, 8)) if shared else Asked((8, 8)))
    scenes = [scene(draw, space, (8, 8)) for _ in range(draw(st.integers(1, 3)))]
    method, size = draw(st.sampled_from(METHODS)), draw(st.sampled_from([None, 1, 2]))
    images = torch.stack([one.image for one in scenes])
    options: dict[str, Any] = {"method": method, "batch_size": size, "score": "logit"}
    if shared:
        words = draw(st.permutations(range(CLASSES)))[: draw(st.integers(1, CLASSES))]
        truth = truths(scenes, words, (8, 8))
        options["target"] = list(range(len(words)))
    else:
        words = [draw(st.sampled_from(sorted(one.boxes))) for one in scenes]
        truth = {(i, 0): Truth(tuple(scenes[i].boxes[word]), (8, 8)) for i, word in enumerate(words)}
        options["target"] = 0
    text = torch.tensor(words)[:, None]
    form = draw(st.sampled_from(["positions", "names", "names, text first"]))
    named = {"image": images, "text": text} if form == "names" else {"text": text, "image": images}
    inputs = (images, text) if form == "positions" else named
    described = f"{len(scenes)} images, {len(words)} {'shared words' if shared else 'words'}, {form}, parts of {size}"
    return Variation("several inputs", described, network, [Ask(inputs, options, truth)])


@st.composite
def repeated_asks(draw: st.DrawFn) -> Variation:
    """One network asked again after its weights, its image's size or its classes changed."""
    network = seeded(draw, lambda: Classifier((8, 8)))
    assert isinstance(network, Classifier)
    order = list(range(CLASSES))  # the colour of every class
    asks, said = [], []
    for _ in range(draw(st.integers(2, 4))):
        change = draw(st.sampled_from(["none", "weights in place", "weights loaded", "another head"]))
        before = None
        if change != "none":
            order = draw(st.permutations(order))
            before = _reordered(change, order)
        space = (draw(sides), draw(sides))
        scenes = [scene(draw, space, (8, 8)) for _ in range(draw(st.integers(1, 2)))]
        colours = sorted(set.intersection(*(set(one.boxes) for one in scenes))) or sorted(scenes[0].boxes)
        targets = [order.index(colour) for colour in draw(st.permutations(colours))[:2]]
        truth = truths(scenes, [order[k] for k in targets], (8, 8))
        options = {"target": targets if len(targets) > 1 else targets[0], "method": draw(st.sampled_from(METHODS))}
        asks.append(Ask(torch.stack([one.image for one in scenes]), options, truth, before))
        said.append(change)
    return Variation("repeated asks", ", ".join(said), network, asks)


def _reordered(how: str, order: Sequence[int]) -> Callable[[nn.Module], None]:
    """Return a change of a classifier, after which class ``k`` is colour ``order[k]``."""

    def change(network: nn.Module) -> None:
        assert isinstance(network, Classifier)
        weight = torch.randn(CLASSES, network.head.in_features, generator=torch.Generator().manual_seed(0)) * 0.2
        for k, colour in enumerate(order):
            weight[k, :CLASSES] = 0
            weight[k, colour] = 20
        if how == "weights in place":
            network.head.weight.data.copy_(weight)
        elif how == "weights loaded":
            network.load_state_dict(network.state_dict() | {"head.weight": weight})
        else:
            network.head = nn.Linear(network.head.in_features, CLASSES)
            network.head.weight.data.copy_(weight)

    return change


@st.composite
def skip_connections(draw: st.DrawFn) -> Variation:
    """Networks whose evidence passes beside the blocks of random weights before their end."""
    how, after = draw(st.sampled_from(["added", "concatenated", "gated"])), ["nothing", "identity", "norm", "relu"]
    last, count = draw(st.sampled_from(after)), draw(st.integers(1, 3))
    space = (draw(sides), draw(sides))
    network = seeded(draw, lambda: Skips((8, 8), count, how, last))
    shown = scene(draw, space, (8, 8))
    text = f"{count} blocks {how}, then {last}, {space}"
    return Variation("skip connections", text, network, [plain(draw, network, [shown], (8, 8))])


@st.composite
def dense_outputs(draw: st.DrawFn) -> Variation:
    """Networks with scores for every cell (segmenters, detectors), asked for a class, a region or a box."""
    count, after = draw(st.integers(0, 2)), draw(st.sampled_from(["nothing", "norm"]))
    space, larger = (draw(sides), draw(sides)), draw(st.booleans())
    shown = scene(draw, space, (8, 8))
    target = target_of(draw, shown)
    form = draw(st.sampled_from(["map", "dict", "boxes", "mask"]))
    body = seeded(draw, lambda: Skips((8, 8), count, "added", after, dense=True))
    network = Dense(body, form, space if larger else None)
    boxes = shown.boxes[target]
    (top, bottom), (left, right) = boxes[0]
    scale = (1.0, 1.0) if larger else (8.0, 8.0)
    rows = slice(int(top / scale[0]), max(int(top / scale[0]) + 1, int(bottom / scale[0])))
    columns = slice(int(left / scale[1]), max(int(left / scale[1]) + 1, int(right / scale[1])))

    def score(out: Any) -> Tensor:
        if form == "boxes":
            return torch.stack([one["scores"][one["labels"] == target].sum() for one in out])
        maps = out["out"] if form == "dict" else out[0] if form == "mask" else out
        inside: Tensor = maps[:, target, rows, columns].mean((1, 2))
        return inside

    method = draw(st.sampled_from(METHODS))
    ask = Ask(shown.image[None], {"target": score, "method": method}, truths([shown], [target], (8, 8)))
    ask = replace(ask, truth={(0, 0): Truth(tuple(boxes[:1]) if form != "boxes" else tuple(boxes), (8.0, 8.0))})
    text = f"{form}, {count} blocks, then {after}, {space}, {'upsampled' if larger else 'cells'}"
    return Variation("dense outputs", text, network, [ask])


KINDS: dict[str, Callable[[], st.SearchStrategy[Variation]]] = {
    "changed images": changed_images,
    "branches": branches,
    "tokens": tokens,
    "arranged inputs": arranged_inputs,
    "outputs": outputs,
    "activations": activations,
    "several inputs": several_inputs,
    "repeated asks": repeated_asks,
    "skip connections": skip_connections,
    "dense outputs": dense_outputs,
}
