"""Finding the class scores in a model's return value: by names, by the number of classes, by the autograd graph."""

import dataclasses
import numbers
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from saywhy.engine import graph
from saywhy.errors import TargetError
from saywhy.output.scale import before_views, until_linear
from saywhy.output.scores import ModelOutput, NoClassScores
from saywhy.validation import MOST, index_in, short_repr

_SCORES = ("logits", "logits_per_image", "scores", "out")
"""Names of class scores at the top level of an output, the most certain first."""

_OTHERS = frozenset((
    "attention", "attentions", "box", "boxes", "bbox", "bboxes", "cache", "coords", "critic", "embed", "embeds",
    "embedding", "embeddings", "emb", "feat", "feats", "feature", "features", "hidden", "keypoints",
    "landmarks", "latent", "latents", "loss", "losses", "mask", "masks", "mean", "mu", "offset", "offsets",
    "pooled", "pooler", "position", "positions", "prototype", "prototypes", "reconstruction", "regression",
    "reward", "scale", "sigma", "state", "states", "std", "token", "tokens", "uncertainty", "value", "values",
    "variance", "var",
))  # fmt: skip
"""Words in names of tensors that are no class scores."""

_STATES = frozenset(("hidden", "state", "states"))
"""Words in names of tensors that hold class scores if the model states as many classes."""

_BOXES = frozenset(("box", "boxes", "bbox", "bboxes"))


@dataclass(frozen=True)
class Leaf:
    """A tensor of a model's output.

    Attributes:
        path: the keys, attributes and positions that lead to it, dotted.
        tensor: the tensor.
    """

    path: str
    tensor: Tensor

    @property
    def words(self) -> frozenset[str]:
        """The words of its last name: ``{"image", "embeds"}`` of ``"towers.image_embeds.0"``."""
        name = next((step for step in reversed(self.path.split(".")) if not step.isdigit()), "")
        return frozenset(re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()))

    @property
    def named_logits(self) -> bool:
        """Whether its name says that it holds class scores."""
        return bool(self.words & {"logits", "logit"})

    def __str__(self) -> str:
        return f"{self.path} {list(self.tensor.shape)}"


@dataclass(frozen=True)
class Known:
    """What is known of a model's classes.

    Attributes:
        classes: the number of classes that the model names (``num_classes``, ``config.num_labels``); None if unknown.
        widths: the numbers of outputs of its linear layers.
        has_head: False if the model says that it has no classifier (``num_classes == 0``).
    """

    classes: int | None = None
    widths: frozenset[int] = frozenset()
    has_head: bool = True


def known_classes(module: Any) -> Known:
    """What a module says of its classes.

    >>> known_classes(torch.nn.Sequential(torch.nn.Linear(2, 3))).widths
    frozenset({3})
    """
    config = getattr(module, "config", None)
    found = [getattr(module, "num_classes", None), getattr(config, "num_labels", None)]
    classes = next((n for n in found if isinstance(n, int) and not isinstance(n, bool)), None)
    widths = (getattr(part, "out_features", None) for part in module.modules())
    headless = getattr(module, "num_classes", None) == 0
    if headless and callable(classifier := getattr(module, "get_classifier", None)):
        headless = isinstance(classifier(), torch.nn.Identity)
    return Known(classes or None, frozenset(w for w in widths if isinstance(w, int)), not headless)


def parse_output(
    output: Any, samples: int, path: str | int | None = None, known: Known | None = None, **about: Any
) -> ModelOutput:
    """Find the class scores in a model's return value.

    A tensor [batch, class] is taken as it is; of a dataclass or dict ``logits``, ``scores`` or ``out``. Otherwise the
    one floating-point tensor [batch, class] whose name, or whose number of classes, or whose place in the graph says
    that it holds class scores. If several may, or if the only one says that it is something else (an embedding, a
    value, boxes), class targets are refused with a list. A model with one number a sample has one class.

    Args:
        output: the model's return value.
        samples: the size of the batch.
        path: the attribute, key or position to take instead, dotted for nested outputs (``"aux.logits"``).
        known: what is known of the model's classes; None is nothing.
        about: the other fields of :class:`ModelOutput`.

    Raises:
        TargetError: there is nothing at ``path``, or it is not a tensor.

    >>> features, logits = torch.zeros(2, 512), torch.zeros(2, 3)
    >>> parse_output((features, logits), 2, labels=["a", "b", "c"]).logits is logits
    True
    """
    if path is not None:
        whole = isinstance(path, numbers.Integral) and not isinstance(path, bool) and abs(path) <= MOST
        if not isinstance(path, str) and not whole:
            raise TargetError(f"output must be a dotted name or a position, got {short_repr(path)}.")
        found: Leaf | str | None = Leaf(str(path), _at(output, path))
    else:
        found = locate(output, samples, len(about.get("labels") or ()), known or Known())
    if isinstance(found, Leaf):
        logits = found.tensor.unsqueeze(1) if found.tensor.ndim == 1 else found.tensor
        if logits.ndim == 2 and len(logits) == samples:
            return ModelOutput(logits, raw=output, **about)
    # Functions of the output need no class scores; a class target raises an error later.
    reason = found if isinstance(found, str) else ""
    return NoClassScores(torch.zeros(samples, 0), raw=output, reason=reason, **about)


def leaves(value: Any, path: str = "") -> Iterator[Leaf]:
    """Every tensor in a model's output with its path, depth first, in order.

    >>> [str(leaf) for leaf in leaves({"a": (torch.zeros(1), None, torch.zeros(2, 3))})]
    ['a.0 [1]', 'a.2 [2, 3]']
    """
    if isinstance(value, Tensor):
        yield Leaf(path, value)
        return
    named: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(value, Mapping):
        named = iter(value.items())
    elif isinstance(value, tuple | list):
        named = iter(zip(getattr(value, "_fields", range(len(value))), value, strict=True))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = ((f.name, getattr(value, f.name, None)) for f in dataclasses.fields(value))
    for name, part in named:
        yield from leaves(part, f"{path}.{name}" if path else str(name))


def locate(output: Any, samples: int, labels: int, known: Known) -> Leaf | str | None:
    """The class scores; a sentence that says why there are none; or None if no tensor has their shape.

    Args:
        output: the model's return value.
        samples: the size of the batch.
        labels: the number of labels; 0 if there are none.
        known: what is known of the model's classes.
    """
    if isinstance(output, Tensor):
        return _alone(Leaf("", output), labels, known) if output.is_floating_point() else None
    if isinstance(output, list) and len(output) == samples > 1 and all(isinstance(one, Mapping) for one in output):
        return None  # one result a sample, as detectors give: no tensor has a batch axis
    every = list(leaves(output))
    detector = any(leaf.words & _BOXES for leaf in every)
    floats = [leaf for leaf in every if leaf.tensor.is_floating_point()]
    fitting = [leaf for leaf in floats if leaf.tensor.ndim == 2 and len(leaf.tensor) == samples]
    for name in _SCORES:
        found = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if not isinstance(found, Tensor) or not found.is_floating_point() or (detector and "logits" not in name):
            continue
        others_fit = any(leaf.tensor.shape[1] == labels for leaf in fitting)
        if name != "logits" and labels and others_fit and found.shape[1:] != (labels,):
            continue  # the labels say which tensor it is
        return Leaf(name, found)
    named = [leaf for leaf in fitting if leaf.named_logits]
    others = [] if detector else [leaf for leaf in fitting if not leaf.words & _OTHERS]
    pool = _different(named or others)
    if len(pool) == 1:
        (one,) = pool
        if not named and one.tensor.shape[1] not in (labels, known.classes):
            ones = [leaf for leaf in floats if leaf.tensor.shape == (samples,) and not leaf.words & _OTHERS]
            for leaf in ones:
                if _is_of_features(leaf, one):
                    return leaf
        fits = named or not labels or one.tensor.shape[1] == labels
        return _alone(one, labels, known) if fits else _refusal(pool, labels)
    for choose in (
        lambda leaf: leaf.tensor.shape[1] == labels,
        lambda leaf: leaf.tensor.shape[1] == known.classes,
    ):
        some = [leaf for leaf in pool if choose(leaf)]
        pool = some or pool
        if len(some) == 1:
            return some[0]
    if labels and pool and not any(leaf.tensor.shape[1] == labels for leaf in pool):
        return _refusal(pool, labels)
    last = _last(pool) or [leaf for leaf in pool if leaf.tensor.shape[1] in known.widths]
    if len(last) == 1 and not _share_a_start(pool):
        return last[0]
    if pool:
        return _refusal(pool, labels)
    stated = [leaf for leaf in fitting if leaf.words & _STATES and leaf.tensor.shape[1] == known.classes]
    if len(stated) == 1 and labels in (0, known.classes) and not detector:
        return stated[0]  # some classifiers of transformers (PP-LCNet) return their scores as a hidden state
    return _refusal(fitting, labels, fits=False) if fitting else None


def _alone(leaf: Leaf, labels: int, known: Known) -> Leaf | str:
    """A tensor that is the only one, or why it holds no class scores."""
    found = leaf.tensor
    if found.ndim != 2 or (labels and found.shape[1] == labels):
        return leaf
    shape = list(found.shape)
    if not known.has_head:
        return (
            f"the model has no classes (num_classes=0), so its output {shape} holds features. Give the model a head, "
            "or a target function such as target=lambda out: out[:, 0]."
        )
    if _is_embedding(found):
        return (
            f"the model's output {shape} is an embedding (every row has norm 1) and no class scores [batch, class]. "
            "Give a target function, such as the similarity to another embedding: target=lambda out: out @ other. If "
            "they are class scores, name them: saywhy.load(network, labels=[...])."
        )
    return leaf


def _is_embedding(found: Tensor) -> bool:
    """Whether the rows are vectors of norm 1 with values of both signs."""
    rows = found.detach()
    if rows.shape[1] < 8 or not len(rows) or bool((rows >= 0).all()):
        return False
    tolerance = max(1e-4, 8 * float(torch.finfo(rows.dtype).eps))
    return bool(((rows.double().norm(dim=1) - 1).abs() < tolerance).all())


def _different(found: Sequence[Leaf]) -> list[Leaf]:
    """The leaves without copies of earlier ones."""
    kept: list[Leaf] = []
    for leaf in found:
        mine = leaf.tensor
        if not any(mine.shape == one.tensor.shape and torch.equal(mine, one.tensor.to(mine)) for one in kept):
            kept.append(leaf)
    return kept


def _last(pool: Sequence[Leaf]) -> list[Leaf]:
    """The leaf that is computed from all others, as scores are from features; [] where there is no such leaf.

    Of scores that are computed from other scores without a linear layer between, as probabilities are from logits, the
    first are taken.
    """
    starts = [before_views(leaf.tensor.grad_fn) for leaf in pool]
    for leaf, start in zip(pool, starts, strict=True):
        if start is None:
            return []
        behind = set(graph.nodes([leaf.tensor]))
        if all(one in behind for one in starts):
            near = set(until_linear(leaf.tensor))
            same = [
                one
                for one, node in zip(pool, starts, strict=True)
                if node in near and one.tensor.shape == leaf.tensor.shape
            ]
            # The first is the one that all others of them are computed from.
            return [one for one, node in zip(pool, starts, strict=True) if one in same and _before(node, same)][:1]
    return []


def _share_a_start(pool: Sequence[Leaf]) -> bool:
    """Whether several leaves are views of one result, such as its parts: none of them is computed from the others."""
    starts = [start for leaf in pool if (start := before_views(leaf.tensor.grad_fn)) is not None]
    return len(set(starts)) < len(starts)


def _is_of_features(scores: Leaf, features: Leaf) -> bool:
    """Whether a linear layer computes one tensor from another, as scores from features."""
    start = before_views(features.tensor.grad_fn)
    near = set(until_linear(scores.tensor))
    return start is not None and start not in near and start in set(graph.nodes([scores.tensor]))


def _before(node: Any, leaves: Sequence[Leaf]) -> bool:
    return all(node in set(graph.nodes([leaf.tensor])) for leaf in leaves)


def _refusal(found: Sequence[Leaf], labels: int, *, fits: bool = True) -> str:
    """Why no tensor is taken, with their shapes and what to do."""
    listed = ", ".join(map(str, found))
    if not fits:
        return (
            f"the model's output has no class scores by its names: {listed}. Give a target function of the output, "
            f"such as target=lambda out: ...; if one of these holds class scores, name it: output={found[0].path!r}."
        )
    wanted = f" and the model has {labels} labels" if labels else ""
    choices = " or ".join(f"output={leaf.path!r}" for leaf in found[:3])
    return (
        f"{len(found)} tensors of the model's output may be its class scores [batch, class]: {listed}{wanted}. Choose "
        f"one with {choices}, or give a target function of the output."
        if len(found) > 1
        else f"the model's output has one tensor [batch, number], {listed},{wanted}: its classes are not those of the "
        f"labels. If it holds class scores, say so with {choices}; else give a target function."
    )


def _at(output: Any, path: str | int) -> Tensor:
    found = output
    for step in str(path).split(".") if path != "" else ():
        try:
            if isinstance(found, Mapping):
                found = found[step]
            elif isinstance(found, tuple | list) and (index := index_in(step.removeprefix("-"))) is not None:
                found = found[-index if step.startswith("-") else index]
            else:
                found = getattr(found, step)
        except (KeyError, IndexError, AttributeError):
            if isinstance(found, Mapping):
                known = [str(k) for k in found]
            elif dataclasses.is_dataclass(found):
                known = [f.name for f in dataclasses.fields(found)]
            else:
                known = [str(i) for i in range(len(found))] if isinstance(found, tuple | list) else []
            raise TargetError(
                f"output={short_repr(path)}: the model's output has no '{step}'. It is a {type(found).__name__}"
                + (f" with {', '.join(known)}." if known else ".")
            ) from None
    if not isinstance(found, Tensor):
        raise TargetError(
            f"output={short_repr(path)} is a {type(found).__name__}, not a tensor of scores [batch, class]."
        )
    return found
