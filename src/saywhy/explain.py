"""The front door: inputs, model, methods, targets and layers in; an explanation out."""

import importlib.metadata
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from saywhy import diagnostics
from saywhy.diagnostics import Diagnostic, Diagnostics, Evidence
from saywhy.engine.capture import Capture
from saywhy.engine.layers import find_layers
from saywhy.engine.layout import Layout
from saywhy.engine.precision import Precision
from saywhy.engine.trace import Candidate, LayerSearch
from saywhy.errors import InputError, SaywhyWarning
from saywhy.explainer.rerun import Rerunner
from saywhy.explainer.runner import BatchResult, LayerSpec, Request, agreement, resolve_methods
from saywhy.explanation import Explanation
from saywhy.methods.fusion import Fusion
from saywhy.methods.method import AttributionResult
from saywhy.methods.registry import find_method
from saywhy.models import Model, load
from saywhy.models.inputs import Batch, as_batch, check_words, translated
from saywhy.output import ScoreKind
from saywhy.targets import Target, as_target


def explain(
    model: "str | nn.Module | Model",
    inputs: Any,
    target: Any = None,
    method: str | Sequence[str] = "gradcam",
    layer: LayerSpec = None,
    *,
    score: ScoreKind | None = None,
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
            :mod:`saywhy.targets` (``from saywhy.targets import Class``; then ``Class("cat") - Class("dog")``); a
            function of the output that gives one number a sample.
        method: one name or several of ``saywhy.methods.METHODS``.
        layer: None finds the deepest layer that provably is a map of the image and has a gradient; a dotted name
            (``"layer4#0"`` for the first call of a layer that runs several times), a module, or a list.
        score: what a class's score is: ``"logit"`` (before the softmax, as the Grad-CAM paper says),
            ``"probability"`` or ``"log-probability"``; None is what each method's own paper takes.
        fuse: ``"mean"``, ``"max"``, ``"product"`` or ``"refine"`` makes one map of several layers.
        layout: how to read the layer, where it cannot be proved and you know better.
        output: where the class scores are in what the model returns (``"logits"``, ``0``, ``"aux.logits"``).
        precision: ``"exact"`` runs the model as it is; ``"fast"`` a copy of it in whatever the machine runs faster,
            with the agreement measured and put on the validity card.
        batch_size: run so many samples (or altered images of one) at once; None is all of the samples, and as many
            altered images as is usual. It never changes the result.
        create_graph: keep the graph, so that maps can be trained through; the model's mode is then left as it is.
        seed: for whatever is random inside the model or a method (masks, noise).
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
    methods, settings = resolve_methods(method, parameters)
    request = Request(
        model=known,
        target=as_target(target),
        methods=methods,
        layer=layer,
        layout=layout,
        score=score,
        output=output if output is not None else known.output,
        precision=precision,
        batch_size=batch_size,
        create_graph=create_graph,
        seed=seed,
        parameters=settings,
    )
    if precision not in ("exact", "fast"):
        raise InputError(f"precision must be 'exact' or 'fast', got {precision!r}.")
    if create_graph:
        several = [m.name for m in request.methods if m.passes == "several"]
        if several:
            raise InputError(f"create_graph=True needs methods of one pass; {', '.join(several)} makes several.")
    if precision == "fast" and create_graph:
        raise InputError(
            "precision='fast' runs a copy of the model, through which yours cannot be trained. Use 'exact'."
        )
    check_words(known, inputs)
    batch = as_batch(known, inputs)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed must be a whole number from 0 on, got {seed!r}.")
    if batch_size is not None and (not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1):
        raise InputError(f"batch_size must be a whole number of at least 1, got {batch_size!r}.")
    if fuse is not None and all(m.at == "input" for m in request.methods):
        raise InputError(f"fuse makes one map of several layers; {request.methods[0].name} is of the image itself.")
    parts = request.run_all(batch, batch_size)
    explanation = _explanation(request, batch, parts)
    _warn_of_zeros(explanation, parts)
    return explanation.fuse(fuse) if fuse is not None else explanation


def capture(
    model: "str | nn.Module | Model",
    inputs: Any,
    target: Any = None,
    layer: LayerSpec = None,
    *,
    score: ScoreKind | None = None,
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
    request = Request(
        model=known,
        target=as_target(target),
        methods=(),
        layer=layer,
        layout=layout,
        score=score,
        output=output if output is not None else known.output,
        create_graph=create_graph,
    )
    check_words(known, inputs)
    return request.capture(as_batch(known, inputs))[0]


def layers(model: "str | nn.Module | Model", inputs: Any) -> list[Candidate]:
    """Every layer of the model that may be a map of the image, in the order in which they run, proved or not."""
    known = model if isinstance(model, Model) else load(model)
    request = Request(model=known, target=as_target(None), methods=(), output=known.output)
    check_words(known, inputs)
    batch = as_batch(known, inputs)
    with translated(known, batch):
        return find_layers(LayerSearch(known.module, batch.inputs, request.question()))


def _explanation(request: Request, batch: Batch, parts: Sequence[BatchResult]) -> Explanation:
    candidates = parts[0].candidates
    agreed = agreement(request, batch, parts[0])
    names = [row for part in parts for row in part.target_scores.names]
    scores = torch.cat([part.target_scores.scores for part in parts])
    probabilities = [part.probabilities for part in parts]
    joined = None if any(p is None for p in probabilities) else torch.cat([p for p in probabilities if p is not None])
    evidence = {name: Evidence.stacked([part.evidence[name] for part in parts]) for name in parts[0].evidence}
    accounts = {key: AttributionResult.stacked([part.accounts[key] for part in parts]) for key in parts[0].accounts}
    maps = {
        key: accounts[key].maps if key in accounts else torch.cat([part.maps[key] for part in parts])
        for key in parts[0].maps
    }
    about = _About(request, {c.name: c for c in candidates}, evidence, maps, scores.dtype, accounts, joined, agreed)
    return Explanation(
        methods=tuple(m.name for m in request.methods),
        layers=tuple(dict.fromkeys(layer for _, layer in maps)),
        targets=names,
        classes=torch.cat([part.target_scores.classes for part in parts]),
        scores=scores,
        score=request.shown_score,
        probabilities=joined,
        input_size=batch.space,
        _maps=maps,
        _completeness_errors={
            key: account.completeness_error
            for key, account in accounts.items()
            if account.completeness_error is not None
        },
        _diagnostics=partial(_diagnostics, about),
        _images=batch.images,
        _provenance=partial(_provenance, request, candidates, names, scores, batch, request.model.version()),
        _counterfactual=partial(_counterfactual, request, batch, len(parts), request.model.version()),
        _again=partial(
            _again, replace(request, resolved_layers=candidates), batch, len(parts), request.model.version(), []
        ),
        words=parts[0].target_scores.words,
    )


def _counterfactual(request: Request, batch: Batch, parts: int, version: int) -> Explanation:
    if request.model.version() != version:
        warnings.warn(
            "the model's weights have changed since the explanation was made: the counterfactual is that of the model "
            "as it is now. Call explain again for both.",
            SaywhyWarning,
            stacklevel=3,
        )
    turned = replace(request, target=-request.target)
    turned_parts = turned.run_all(batch, -(-batch.size // parts))
    explanation = _explanation(turned, batch, turned_parts)
    _warn_of_zeros(explanation, turned_parts)
    return explanation


def _again(request: Request, batch: Batch, parts: int, version: int, targets: list[Target]) -> Rerunner:
    if request.model.version() != version:
        raise InputError(
            "the model's weights have changed since the explanation was made, so it cannot be asked again. Call "
            "explain once more."
        )
    size = -(-batch.size // parts)
    return Rerunner(request, batch, lambda asked, of: _explanation(asked, of, asked.run_all(of, size)), targets)


@dataclass(frozen=True)
class _About:
    """What the validity cards are written from."""

    request: Request
    candidates: Mapping[str, Candidate]
    evidence: Mapping[str, Evidence]
    maps: Mapping[tuple[str, str], Tensor]
    dtype: torch.dtype
    accounts: Mapping[tuple[str, str], AttributionResult]
    probabilities: Tensor | None
    agreement: tuple[str, float] | None


def _diagnostics(about: _About, method: str, layer: str) -> list[list[Diagnostics]]:
    """The validity card of every map of one method at one layer."""
    known, evidence = find_method(method), about.evidence.get(layer)
    common = (
        [diagnostics.input_diagnostic()]
        if layer not in about.candidates
        else _layer_diagnostics(about.candidates[layer])
    )
    if not known.uses_gradients:
        common.append(diagnostics.class_agnostic_diagnostic())
    if about.agreement is not None:
        common.append(diagnostics.precision_diagnostic(*about.agreement, measured=known.passes == "one"))
    score, chances = about.request.score or known.score, about.probabilities
    if known.passes == "several" and about.dtype in (torch.bfloat16, torch.float16):
        common.append(diagnostics.rounding_diagnostic(about.dtype))
    if score != about.request.shown_score:
        common.append(diagnostics.score_diagnostic(score, about.request.shown_score))
    low, high = (v.tolist() for v in torch.aminmax(about.maps[method, layer].detach().flatten(2), dim=2))
    account = about.accounts.get((method, layer))
    completeness_error, steps = (account.completeness_error, account.steps) if account is not None else (None, None)
    common.extend(account.facts if account is not None else ())
    of_score = known.shows == "evidence"
    cards: list[list[Diagnostics]] = []
    for b, row in enumerate(low):
        cards.append([])
        for t, lowest in enumerate(row):
            facts = [
                *common,
                # A path begins where the gradient is; that it has vanished at its end is told of the saturation.
                diagnostics.gradient_diagnostic(evidence, b, t)
                if evidence is not None and completeness_error is None
                else None,
                diagnostics.evidence_diagnostic(
                    evidence if known.uses_gradients else None, lowest, high[b][t], b, t, of_score
                ),
            ]
            if completeness_error is not None:
                facts.append(
                    diagnostics.completeness_diagnostic(
                        float(completeness_error[b, t]), None if steps is None else int(steps[b])
                    )
                )
            if chances is not None and not bool(chances[b, t].isnan()):
                facts.append(
                    diagnostics.saturation_diagnostic(
                        float(chances[b, t]), score, of_path=completeness_error is not None
                    )
                )
            cards[-1].append(tuple(fact for fact in facts if fact is not None))
    return cards


def _layer_diagnostics(candidate: Candidate) -> list[Diagnostic | None]:
    return [diagnostics.layout_diagnostic(candidate), diagnostics.calls_diagnostic(candidate)]


def _provenance(
    request: Request,
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
        "images": [source.name for source in batch.images()],
        "targets": names,
        "scores": scores.detach().float().cpu().tolist(),
        "score": request.score or {m.name: m.score for m in request.methods},
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


def _warn_of_zeros(explanation: Explanation, parts: Sequence[BatchResult]) -> None:
    """Say why a map is zero everywhere; once for every cause, not for every map."""
    causes: dict[str, list[str]] = {}
    for (method, layer), maps in explanation._maps.items():
        blank = ~maps.detach().flatten(2).any(-1)
        if not bool(blank.any()):
            continue
        evidence = Evidence.stacked([part.evidence[layer] for part in parts]) if layer in parts[0].evidence else None
        for b, t in blank.nonzero().tolist():
            if not explanation.targets[b][t]:
                continue  # no target at all: behind the end of a shorter caption
            cause = diagnostics.zero_cause(evidence, b, t, uses_gradients=find_method(method).uses_gradients)
            names = causes.setdefault(cause, [])
            if explanation.targets[b][t] not in names:
                names.append(explanation.targets[b][t])
    for cause, names in causes.items():
        shown = ", ".join(f"'{n}'" for n in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        warnings.warn(f"{shown}: {cause}.", SaywhyWarning, stacklevel=3)
