"""The front door: inputs, model, methods, targets and layers in; an explanation out."""

import contextlib
import importlib.metadata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from saywhy import validity
from saywhy.engine import tree
from saywhy.engine.capture import Capture
from saywhy.engine.capture import capture as run_capture
from saywhy.engine.layers import find_layer, find_layers, named_layer
from saywhy.engine.layout import Layout
from saywhy.engine.precision import Precision, Variant, fastest
from saywhy.engine.trace import Candidate, Question, Watching
from saywhy.errors import InputError, MethodError, SaywhyWarning, WeightsError
from saywhy.explanation import Explanation
from saywhy.inputs import Batch, as_batch
from saywhy.methods.fusion import Fusion
from saywhy.methods.registry import Method, find_method
from saywhy.models import Model, load
from saywhy.models.weights import check_finite
from saywhy.targets import Answer, Columns, ScoreKind, Target, Top, as_answer, as_target
from saywhy.validity import Card, Evidence

LayerChoice = str | nn.Module | None | Sequence[str | nn.Module]


def explain(
    model: "str | nn.Module | Model",
    inputs: Any,
    target: Any = None,
    method: str | Sequence[str] = "gradcam",
    layer: LayerChoice = None,
    *,
    score: ScoreKind = "logit",
    fuse: Fusion | None = None,
    layout: Layout | None = None,
    output: str | int | None = None,
    precision: Precision = "exact",
    batch_size: int | None = None,
    create_graph: bool = False,
    seed: int = 0,
    **parameters: Any,
) -> Explanation:
    """Why did the model say that? One pass, however many targets, methods and layers are asked for.

    Args:
        model: what :func:`saywhy.load` gave, a name for it, or any ``nn.Module``. It is borrowed: mode, hooks,
            gradients, buffers and random state are afterwards as they were.
        inputs: a path, PIL image or numpy array, or a list of them (the model must know its preprocessing); a
            preprocessed tensor [3, height, width] or [batch, 3, height, width]; a tuple of positional or a dict of
            keyword arguments for networks of several inputs.
        target: None is the model's own top answer, sample by sample; an index or a label is one class; a list several
            targets for every sample; an integer tensor [batch] or [batch, target] each sample its own; an object of
            :mod:`saywhy.targets` (``Class("cat") - Class("dog")``); a function of the output that gives one number a
            sample.
        method: one name or several of ``saywhy.methods.METHODS``.
        layer: None finds the deepest layer that provably is a map of the picture and has a gradient; a dotted name
            (``"layer4#0"`` for the first call of a layer that runs several times), a module, or a list.
        score: what a class's score is: ``"logit"`` (before the softmax, as the paper says), ``"probability"`` or
            ``"log-probability"``.
        fuse: ``"mean"``, ``"max"`` or ``"product"`` makes one map of several layers.
        layout: how to read the layer, where it cannot be proved and you know better.
        output: where the class scores are in what the model returns (``"logits"``, ``0``, ``"aux.logits"``).
        precision: ``"exact"`` runs the model as it is; ``"fast"`` a copy of it in whatever the machine runs faster,
            with the agreement measured and put on the validity card.
        batch_size: run so many samples at once; None is all. It never changes the result.
        create_graph: keep the graph, so that maps can be trained through; the model's mode is then left as it is.
        seed: for whatever is random inside the model.
        parameters: of the methods (``relu=False``, ``pooling="max"``); each goes to the methods that have it.

    Returns:
        An :class:`~saywhy.explanation.Explanation`.

    Raises:
        SaywhyError: one of its kinds, each saying what was expected, what came and what to do.

    >>> _ = torch.manual_seed(0)
    >>> features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    >>> network = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> e = explain(network, torch.rand(5, 3, 8, 8), target=[0, 1], relu=False)
    >>> e.maps.shape, e.layers
    (torch.Size([5, 2, 8, 8]), ('0',))
    """
    known = model if isinstance(model, Model) else load(model)
    request = _Request(
        model=known,
        target=as_target(target),
        methods=_methods(method, parameters),
        layer=layer,
        layout=layout,
        score=score,
        output=output if output is not None else known.output,
        precision=precision,
        create_graph=create_graph,
        seed=seed,
        parameters=parameters,
    )
    if precision not in ("exact", "fast"):
        raise InputError(f"precision must be 'exact' or 'fast', got {precision!r}.")
    if precision == "fast" and create_graph:
        raise InputError(
            "precision='fast' runs a copy of the model, through which yours cannot be trained. Use 'exact'."
        )
    batch = as_batch(known, inputs)
    if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
        raise InputError(f"batch_size must be a whole number of at least 1, got {batch_size!r}.")
    parts = request.run_all(batch, batch_size)
    explanation = _explanation(request, batch, parts)
    _warn_of_zeros(explanation, parts)
    return explanation.fuse(fuse) if fuse is not None else explanation


def capture(
    model: "str | nn.Module | Model",
    inputs: Any,
    target: Any = None,
    layer: LayerChoice = None,
    *,
    score: ScoreKind = "logit",
    layout: Layout | None = None,
    output: str | int | None = None,
    create_graph: bool = False,
) -> Capture:
    """Activations and gradients themselves, for methods of your own. Arguments as for :func:`explain`.

    >>> _ = torch.manual_seed(0)
    >>> features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    >>> network = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> c = capture(network, torch.rand(1, 3, 8, 8), target=[0, 1])
    >>> c.activations["0"].shape, c.gradients()["0"].shape
    (torch.Size([1, 4, 8, 8]), torch.Size([1, 2, 4, 8, 8]))
    """
    known = model if isinstance(model, Model) else load(model)
    request = _Request(
        model=known,
        target=as_target(target),
        methods=(),
        layer=layer,
        layout=layout,
        score=score,
        output=output if output is not None else known.output,
        create_graph=create_graph,
    )
    return request.capture(as_batch(known, inputs))[0]


def layers(model: "str | nn.Module | Model", inputs: Any) -> list[Candidate]:
    """Every layer of the model that may be a map of the picture, in the order in which they run, proved or not."""
    known = model if isinstance(model, Model) else load(model)
    request = _Request(model=known, target=as_target(None), methods=(), output=known.output)
    batch = as_batch(known, inputs)
    with _translated(known, batch):
        return find_layers(Watching(known.module, batch.inputs, request.question()))


@dataclass(frozen=True)
class _Part:
    """The result for one batch."""

    columns: Columns
    probabilities: Tensor | None
    maps: dict[tuple[str, str], Tensor]
    evidence: dict[str, Evidence]
    candidates: list[Candidate]


@dataclass(frozen=True)
class _Request:
    """Everything that is asked, but for the samples."""

    model: Model
    target: Target
    methods: Sequence[Method]
    layer: LayerChoice = None
    layout: Layout | None = None
    score: ScoreKind = "logit"
    output: str | int | None = None
    precision: Precision = "exact"
    create_graph: bool = False
    seed: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def answer(self, samples: int, result: Any) -> Answer:
        """The model's output as class scores."""
        answer = as_answer(
            result,
            samples,
            self.output,
            labels=self.model.labels,
            multilabel=self.model.multilabel,
            score=self.score,
        )
        if not bool(torch.isfinite(answer.logits.detach()).all()):
            raise WeightsError(_why_not_finite(self.model))
        return answer

    def question(self) -> Question:
        """By what the layers are judged: the top answer, so that every class is explained at the same layer.

        Functions of the user's may look at another part of the output, so they are asked themselves.
        """
        # The code, not the function: a lambda written inside a loop is a new object every time round.
        functions = frozenset(getattr(f.function, "__code__", f.function) for f in self.target.functions())
        target = self.target.of_samples(slice(0, 1)) if functions else Top(1)

        def scores(result: Any) -> Tensor:
            return target.columns(replace(self.answer(1, result), score="logit")).scores

        return Question(scores, key=functions)

    def candidates(self, batch: Batch) -> list[Candidate]:
        """The layers that are asked for, each with its layout proved."""
        wanted: Sequence[str | nn.Module | None] = (
            [self.layer] if self.layer is None or isinstance(self.layer, str | nn.Module) else list(self.layer)
        )
        if not wanted:
            raise InputError("layer is an empty list. Give at least one layer, or None to have it found.")
        watched = Watching(self.model.module, batch.inputs, self.question())
        return [find_layer(watched) if one is None else named_layer(watched, one, self.layout) for one in wanted]

    def capture(self, batch: Batch) -> tuple[Capture, Columns, list[Candidate]]:
        """One pass over a batch."""
        seen: dict[str, Columns] = {}

        def scores(result: Any) -> Tensor:
            seen["columns"] = self.target.columns(self.answer(batch.size, result))
            return seen["columns"].scores

        with _translated(self.model, batch):
            candidates = self.candidates(batch)
            watched = [candidate.watched() for candidate in candidates]
            module, inputs = self.model.module, batch.inputs
            if self.precision == "fast":
                variant = fastest(module, inputs, [_module_name(w.name) for w in watched])
                watched = [replace(w, module=variant.module.get_submodule(_module_name(w.name))) for w in watched]
                module, inputs = variant.module, variant.prepare(inputs)
            captured = run_capture(module, inputs, watched, scores, create_graph=self.create_graph, seed=self.seed)
        return captured, seen["columns"], candidates

    def run_all(self, batch: Batch, size: int | None) -> list[_Part]:
        """One batch, or several of at most ``size`` samples."""
        if size is None or size >= batch.size:
            return [self.run(batch)]
        return [
            replace(self, target=self.target.of_samples(some)).run(batch.of_samples(some))
            for some in (slice(start, start + size) for start in range(0, batch.size, size))
        ]

    def run(self, batch: Batch) -> _Part:
        """Maps of all methods, layers and targets for one batch."""
        captured, columns, candidates = self.capture(batch)
        maps: dict[tuple[str, str], list[Tensor]] = {(m.name, c.name): [] for m in self.methods for c in candidates}
        evidence: dict[str, list[Evidence]] = {c.name: [] for c in candidates}
        with torch.set_grad_enabled(self.create_graph), torch.inference_mode(False):
            activations = {name: _wide(a) for name, a in captured.activations.items()}
            for _, gradients in captured.chunks():
                for name, found in gradients.items():
                    A, G = activations[name], _wide(found)
                    evidence[name].append(Evidence.of(A, G))
                    for method in self.methods:
                        maps[method.name, name].append(self._maps(method, A, G))
        return _Part(
            columns=replace(columns, scores=captured.scores),
            probabilities=_probabilities(self.answer(batch.size, captured.output), columns),
            maps={key: torch.cat(some, dim=1) for key, some in maps.items()},
            evidence={name: Evidence.joined(some) for name, some in evidence.items()},
            candidates=candidates,
        )

    def _maps(self, method: Method, A: Tensor, G: Tensor) -> Tensor:
        """Maps [batch, target, *space] of one method, target by target: the activations stay in the cache."""
        parameters = {name: value for name, value in self.parameters.items() if name in method.parameters}
        if not method.uses_gradients:
            return method.function(A, A, **parameters).unsqueeze(1).expand(-1, G.shape[1], *A.shape[2:])
        return torch.stack([method.function(A, g, **parameters) for g in G.unbind(1)], dim=1)


def _methods(names: str | Sequence[str], parameters: Mapping[str, Any]) -> tuple[Method, ...]:
    """The methods asked for, once each, with parameters that at least one of them has."""
    wanted = [names] if isinstance(names, str) else list(names)
    if not wanted:
        raise MethodError("method is an empty list. Give at least one; `saywhy methods` lists them.")
    methods = tuple(find_method(name) for name in dict.fromkeys(wanted))
    known = {parameter for method in methods for parameter in method.parameters}
    for name in parameters:
        if name not in known:
            raise MethodError(
                f"{', '.join(m.name for m in methods)} has no parameter '{name}'. "
                + (f"Parameters: {', '.join(sorted(known))}." if known else "It has none.")
            )
    return methods


def _module_name(layer: str) -> str:
    """The name of the module, without the number of the call."""
    return layer.partition("#")[0]


def _wide(tensor: Tensor) -> Tensor:
    """Maps are computed in at least float32, whatever the model runs in."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def _probabilities(answer: Answer, columns: Columns) -> Tensor | None:
    """The probability of every target that is one class, NaN for the others."""
    classes = columns.classes
    if bool((classes < 0).all()) or not answer.logits.shape[1]:
        return None
    values = answer.values("probability").detach().float().cpu()
    return values.gather(1, classes.clamp_min(0)).masked_fill(classes < 0, float("nan"))


@contextlib.contextmanager
def _translated(model: Model, batch: Batch) -> Iterator[None]:
    """What the model itself raises, in a sentence with the shapes that it was given."""
    try:
        yield
    except tree.CallFailed as failed:
        error = failed.__cause__
        shapes = ", ".join(f"{t.dtype} {list(t.shape)}".removeprefix("torch.") for t in tree.tensors(batch.inputs))
        raise InputError(
            f"{model.name} does not take this input ({shapes}): {type(error).__name__}: {error}"
        ) from error


def _why_not_finite(model: Model) -> str:
    broken = check_finite(model.module)
    if broken is not None:
        return f"the model's answer is NaN or infinite, because its weight '{broken}' is. Load other weights."
    return (
        "the model's answer is NaN or infinite, although its weights are finite. Is the input "
        "preprocessed as the model "
        f"expects, and is {str(model.dtype).removeprefix('torch.')} precise enough for it?"
    )


def _agreement(request: _Request, batch: Batch, part: _Part) -> tuple[str, float] | None:
    """How the copy of ``precision="fast"`` was made, and how its maps correlate with those of the model itself.

    Measured once for a model and a shape of inputs, on the first batch, over all of its maps: the lowest of them.
    """
    if request.precision != "fast":
        return None
    variant = fastest(request.model.module, batch.inputs, [_module_name(c.name) for c in part.candidates])
    if variant not in _agreements:
        target = request.target.of_samples(slice(0, batch.size))
        exact = replace(request, target=target, precision="exact").run(batch)
        pairs = [(part.maps[key].flatten(2), exact.maps[key].flatten(2)) for key in part.maps]
        _agreements[variant] = min(float(_correlation(a, b).min()) for a, b in pairs)
    return variant.name, _agreements[variant]


_agreements: "WeakKeyDictionary[Variant, float]" = WeakKeyDictionary()


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation of the last axis; 1 where both are constant."""
    a, b = (t.double() - t.double().mean(-1, keepdim=True) for t in (a, b))
    size = a.norm(dim=-1) * b.norm(dim=-1)
    return torch.where(size > 0, (a * b).sum(-1) / torch.where(size > 0, size, 1.0), (a == b).all(-1).double())


def _explanation(request: _Request, batch: Batch, parts: Sequence[_Part]) -> Explanation:
    candidates = parts[0].candidates
    agreement = _agreement(request, batch.of_samples(slice(0, len(parts[0].columns.names))), parts[0])
    names = [row for part in parts for row in part.columns.names]
    scores = torch.cat([part.columns.scores for part in parts])
    probabilities = [part.probabilities for part in parts]
    joined = None if any(p is None for p in probabilities) else torch.cat([p for p in probabilities if p is not None])
    evidence = {c.name: Evidence.stacked([part.evidence[c.name] for part in parts]) for c in candidates}
    maps = {key: torch.cat([part.maps[key] for part in parts]) for key in parts[0].maps}
    return Explanation(
        methods=tuple(m.name for m in request.methods),
        layers=tuple(c.name for c in candidates),
        targets=names,
        classes=torch.cat([part.columns.classes for part in parts]),
        scores=scores,
        probabilities=joined,
        input_size=batch.space,
        _maps=maps,
        _cards=partial(_cards, request, {c.name: c for c in candidates}, evidence, maps, joined, agreement),
        _pictures=batch.pictures,
        _provenance=partial(_provenance, request, candidates, names, scores, batch, request.model.version()),
        _counterfactual=partial(_counterfactual, request, batch, len(parts)),
    )


def _counterfactual(request: _Request, batch: Batch, parts: int) -> Explanation:
    turned = replace(request, target=-request.target)
    turned_parts = turned.run_all(batch, -(-batch.size // parts))
    explanation = _explanation(turned, batch, turned_parts)
    _warn_of_zeros(explanation, turned_parts)
    return explanation


def _cards(
    request: _Request,
    candidates: Mapping[str, Candidate],
    evidence: Mapping[str, Evidence],
    maps: Mapping[tuple[str, str], Tensor],
    probabilities: Tensor | None,
    agreement: tuple[str, float] | None,
    method: str,
    layer: str,
) -> list[list[Card]]:
    """The validity card of every map of one method at one layer."""
    common = [validity.layout_fact(candidates[layer]), validity.calls_fact(candidates[layer])]
    if agreement is not None:
        common.append(validity.precision_fact(*agreement))
    low, high = (v.tolist() for v in torch.aminmax(maps[method, layer].detach().flatten(2), dim=2))
    cards: list[list[Card]] = []
    for b, row in enumerate(low):
        cards.append([])
        for t, lowest in enumerate(row):
            facts = [
                *common,
                validity.gradient_fact(evidence[layer], b, t),
                validity.evidence_fact(evidence[layer], lowest, high[b][t], b, t),
            ]
            if probabilities is not None and not bool(probabilities[b, t].isnan()):
                facts.append(validity.saturation_fact(float(probabilities[b, t]), request.score))
            cards[-1].append(tuple(fact for fact in facts if fact is not None))
    return cards


def _provenance(
    request: _Request,
    candidates: Sequence[Candidate],
    names: list[list[str]],
    scores: Tensor,
    batch: Batch,
    version: int,
) -> dict[str, Any]:
    """All that is needed to make the maps again.

    The digest is worked out when it is asked for. If the weights have changed since the maps were made, it would be
    that of other weights, and is left out.
    """
    libraries = ("saywhy", "torch", "torchvision", "timm", "transformers")
    unchanged = request.model.version() == version
    return {
        "model": request.model.name,
        "weights_sha256": request.model.digest() if unchanged else None,
        "pictures": [picture.name for picture in batch.pictures()],
        "targets": names,
        "scores": scores.detach().float().cpu().tolist(),
        "score": request.score,
        "methods": {
            m.name: {**m.parameters, **{k: v for k, v in request.parameters.items() if k in m.parameters}}
            for m in request.methods
        },
        "layers": {
            c.name: {
                "layout": str(c.proof.layout) if c.proof else "",
                "proved": bool(c.proof and c.proof.holds),
            }
            for c in candidates
        },
        "precision": request.precision,
        "seed": request.seed,
        "versions": {name: v for name in libraries if (v := _version(name))},
    }


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _warn_of_zeros(explanation: Explanation, parts: Sequence[_Part]) -> None:
    """Say why a map is zero everywhere; once for every cause, not for every map."""
    causes: dict[str, list[str]] = {}
    for (_, layer), maps in explanation._maps.items():
        blank = ~maps.detach().flatten(2).any(-1)
        if not bool(blank.any()):
            continue
        evidence = Evidence.stacked([part.evidence[layer] for part in parts])
        for b, t in blank.nonzero().tolist():
            names = causes.setdefault(validity.zero_cause(evidence, b, t), [])
            if explanation.targets[b][t] not in names:
                names.append(explanation.targets[b][t])
    for cause, names in causes.items():
        shown = ", ".join(f"'{n}'" for n in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        warnings.warn(f"{shown}: {cause}.", SaywhyWarning, stacklevel=3)
