"""Everything that is asked in one call, and the one pass that answers it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from saywhy.diagnostics import Evidence
from saywhy.engine import tree
from saywhy.engine.capture import Capture, Watched
from saywhy.engine.capture import capture as run_capture
from saywhy.engine.layers import find_layer, named_layer, spelling
from saywhy.engine.layout import Layout
from saywhy.engine.precision import ModelVariant, Precision, fastest
from saywhy.engine.preserve import preserve_state
from saywhy.engine.runner import ModelRunner, input_layer
from saywhy.engine.trace import Candidate, LayerProbe, LayerSearch
from saywhy.errors import InputError, MethodError, WeightsError
from saywhy.methods.method import AttributionResult, Method
from saywhy.methods.registry import find_method
from saywhy.models import Model
from saywhy.models.inputs import Batch, black_of, translated
from saywhy.models.weights import check_finite
from saywhy.output import ModelOutput, ScoreKind, parse_output
from saywhy.shapes import at_least_float32
from saywhy.targets import PerSampleTarget, Target, TargetScores, Top
from saywhy.validation import checked

LayerSpec = str | nn.Module | None | Sequence[str | nn.Module]


@dataclass(frozen=True)
class BatchResult:
    """The result for one batch."""

    target_scores: TargetScores
    probabilities: Tensor | None
    maps: dict[tuple[str, str], Tensor]
    accounts: dict[tuple[str, str], AttributionResult]
    evidence: dict[str, Evidence]
    candidates: list[Candidate]


IMAGE = "input"
"""What the image itself is called where a layer is named."""


@dataclass(frozen=True)
class _Form:
    """The network in the form in which it runs, and its inputs in the form in which it takes them."""

    module: nn.Module
    inputs: Any

    def watched(self, candidate: Candidate) -> Watched:
        """A layer, in this form of the network."""
        watched = candidate.watched()
        return replace(watched, module=self.module.get_submodule(module_name(watched.name)))


@dataclass(frozen=True)
class Request:
    """Everything that is asked, but for the samples."""

    model: Model
    target: Target
    methods: Sequence[Method]
    layer: LayerSpec = None
    layout: Layout | None = None
    score: ScoreKind | None = None
    output: str | int | None = None
    precision: Precision = "exact"
    batch_size: int | None = None
    create_graph: bool = False
    seed: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    resolved_layers: Sequence[Candidate] = ()
    """Layers that were found and proved before, to be taken as they are."""

    @property
    def shown_score(self) -> ScoreKind:
        """What a class's score is in the results: what all of the methods explain, or else the logit."""
        kinds = {method.score for method in self.methods}
        return self.score or (kinds.pop() if len(kinds) == 1 else "logit")

    def answer(self, samples: int, result: Any, score: ScoreKind = "logit") -> ModelOutput:
        """The model's output as class scores."""
        answer = parse_output(
            result,
            samples,
            self.output,
            labels=self.model.labels,
            multilabel=self.model.multilabel,
            score=self.score or score,
        )
        if not bool(torch.isfinite(answer.logits.detach()).all()):
            raise WeightsError(_why_not_finite(self.model))
        return answer

    def question(self) -> LayerProbe:
        """By what the layers are judged: the top answer, so that every class is explained at the same layer.

        Functions of the user's, and words, look at another part of the output, so they are asked themselves.
        """
        looks = frozenset(self.target.output_keys())
        target = self.target.of_samples(slice(0, 1)) if looks else Top(1)

        def scores(result: Any) -> Tensor:
            return target.evaluate(replace(self.answer(1, result), score="logit")).scores

        return LayerProbe(scores, key=(self.output, looks))

    def candidates(self, batch: Batch) -> list[Candidate]:
        """The layers that are asked for, each with its layout proved."""
        if self.resolved_layers:
            return list(self.resolved_layers)
        layer = self.model.layer if self.layer is None else self.layer
        wanted: Sequence[str | nn.Module | None] = (
            [layer] if layer is None or isinstance(layer, str | nn.Module) else list(layer)
        )
        if not wanted:
            raise InputError("layer is an empty list. Give at least one layer, or None to have it found.")
        watched = LayerSearch(self.model.module, batch.inputs, self.question())
        return [find_layer(watched) if one is None else named_layer(watched, one, self.layout) for one in wanted]

    def _no_layers(self) -> list[Candidate]:
        """None, for methods of the image itself; a layer that is named all the same should at least exist."""
        for layer in [self.layer] if isinstance(self.layer, str | nn.Module) else self.layer or ():
            if layer != IMAGE:
                spelling(self.model.module, layer)
        return []

    def capture(self, batch: Batch) -> tuple[Capture, TargetScores, list[Candidate]]:
        """One pass over a batch, with the layers watched."""
        with translated(self.model, batch):
            candidates = self.candidates(batch)
            form = self._form(batch, candidates)
            captured, target_scores = self._pass(form, [form.watched(c) for c in candidates], batch.size)
        return captured, target_scores, candidates

    def run_all(self, batch: Batch, size: int | None) -> list[BatchResult]:
        """One batch, or several of at most ``size`` samples."""
        if size is None or size >= batch.size:
            return [self.run(batch)]
        return [
            replace(self, target=self.target.of_samples(some)).run(batch.of_samples(some))
            # The last part takes whatever is left, so that a target for more samples than there are is noticed.
            for some in (
                slice(start, start + size if start + size < batch.size else None)
                for start in range(0, batch.size, size)
            )
        ]

    def run(self, batch: Batch) -> BatchResult:
        """Maps of all methods, layers and targets for one batch."""
        at_layers = [m for m in self.methods if m.at == "layer"]
        once = [m for m in self.methods if m.passes == "one"]
        with translated(self.model, batch):
            candidates = self.candidates(batch) if at_layers else self._no_layers()
            form = self._form(batch, candidates)
            layers = {c.name: form.watched(c) for c in candidates}
            if any(m.at == "input" for m in self.methods):
                layers[IMAGE] = input_layer(form.inputs)
            watched = [w for w in layers.values() if w.module is not None or any(m.at == "input" for m in once)]
            if watched:
                captured, target_scores = self._pass(form, watched, batch.size)
                output = captured.output
                maps, evidence = self._of_one_pass(captured, once)
            else:
                output, target_scores = self._answered(form, batch.size)
                maps, evidence = {}, {}
            accounts: dict[tuple[str, str], AttributionResult] = {}
            for method in self.methods:
                if method.passes == "several":
                    # The targets are those of the image as it is.
                    target = self.target.resolved(self.answer(batch.size, output))
                    runner = self._runner(form, batch, target, method.score)
                    for layer in layers.values():
                        if (layer.module is None) == (method.at == "input"):
                            found = self._of_several_passes(method, runner.at(layer))
                            accounts[method.name, layer.name] = found
                            maps[method.name, layer.name] = found.maps
        order = [(m.name, name) for m in self.methods for name in layers if (m.name, name) in maps]
        return BatchResult(
            target_scores=target_scores,
            probabilities=_probabilities(self.answer(batch.size, output), target_scores),
            maps={key: maps[key] for key in order},
            accounts=accounts,
            evidence=evidence,
            candidates=candidates,
        )

    def _form(self, batch: Batch, candidates: Sequence[Candidate]) -> "_Form":
        """The model as it is, or the copy that this machine runs fastest."""
        module, inputs = self.model.module, batch.inputs
        if self.precision == "exact":
            return _Form(module, inputs)
        variant = fastest(module, inputs, [module_name(c.name) for c in candidates])
        return _Form(variant.module, variant.prepare(inputs))

    def _pass(self, form: "_Form", watched: Sequence[Watched], samples: int) -> tuple[Capture, TargetScores]:
        seen: dict[str, TargetScores] = {}

        def scores(result: Any) -> Tensor:
            seen["columns"] = self.target.evaluate(self.answer(samples, result, self.shown_score))
            return seen["columns"].scores

        captured = run_capture(
            form.module, form.inputs, watched, scores, create_graph=self.create_graph, seed=self.seed
        )
        return captured, replace(seen["columns"], scores=captured.scores)

    def _answered(self, form: "_Form", samples: int) -> tuple[Any, TargetScores]:
        """The answer alone, for methods that watch nothing in the network."""
        inputs = tree.escape_inference(form.inputs)
        with torch.inference_mode(False), torch.no_grad(), preserve_state(form.module, seed=self.seed):
            output = tree.call(form.module, inputs)
            return output, self.target.evaluate(self.answer(samples, output, self.shown_score))

    def _of_one_pass(
        self, captured: Capture, methods: Sequence[Method]
    ) -> tuple[dict[tuple[str, str], Tensor], dict[str, Evidence]]:
        maps: dict[tuple[str, str], list[Tensor]] = {}
        evidence: dict[str, list[Evidence]] = {}
        with torch.set_grad_enabled(self.create_graph), torch.inference_mode(False):
            activations = {name: at_least_float32(a) for name, a in captured.activations.items()}
            for _, gradients in captured.chunks():
                for name, found in gradients.items():
                    A, G = activations[name], at_least_float32(found)
                    evidence.setdefault(name, []).append(Evidence.of(A, G))
                    for method in methods:
                        if (method.at == "input") == (name == IMAGE):
                            maps.setdefault((method.name, name), []).append(self._maps(method, A, G))
        return (
            {key: torch.cat(some, dim=1) for key, some in maps.items()},
            {name: Evidence.joined(some) for name, some in evidence.items()},
        )

    def plain(self, batch: Batch) -> ModelOutput:
        """What the network answers, before any target; one pass without gradients."""
        with translated(self.model, batch):
            output, _ = self._answered(self._form(batch, self.resolved_layers), batch.size)
        return self.answer(batch.size, output)

    def fixed(self, batch: Batch) -> "Request":
        """The same request of the answers that the network gives now, whatever it answers later."""
        return replace(self, target=self.target.resolved(self.plain(batch)))

    def runner(self, batch: Batch, score: ScoreKind) -> ModelRunner:
        """The network that is asked the same of other images; a class's score is what ``score`` says."""
        form = self._form(batch, self.resolved_layers)
        return replace(self, score=None)._runner(form, batch, self.target, score)

    def _runner(self, form: "_Form", batch: Batch, target: Target, kind: ScoreKind) -> ModelRunner:
        """What those work on who run the network themselves, the target being the same all along."""

        def score(result: Any, samples: Tensor) -> Tensor:
            return target.of_samples(samples).evaluate(self.answer(len(samples), widened(result), kind)).scores

        def answers(result: Any, samples: Tensor) -> Tensor:
            return self.answer(len(samples), widened(result), "probability").values("probability")

        def attention(result: Any, samples: Tensor) -> Tensor:
            return target.of_samples(samples).attention(self.answer(len(samples), widened(result)))

        def widened(result: Any) -> Any:
            # Small differences of probabilities are lost where they are computed in half precision.
            return tree.map_tensors(result, lambda t: at_least_float32(t) if t.is_floating_point() else t)

        return ModelRunner(
            model=form.module,
            inputs=form.inputs,
            layer=input_layer(form.inputs),
            score=score,
            answers=answers,
            attention=attention,
            black=black_of(self.model, batch.space),
            seed=self.seed,
            batch_size=self.batch_size,
        )

    def _of_several_passes(self, method: Method, runner: ModelRunner) -> AttributionResult:
        parameters = {name: value for name, value in self.parameters.items() if name in method.parameters}
        with torch.inference_mode(False):
            found: Tensor | AttributionResult = method.function(runner, **parameters)
        return found if isinstance(found, AttributionResult) else AttributionResult(found)

    def _maps(self, method: Method, A: Tensor, G: Tensor) -> Tensor:
        """Maps [batch, target, *space] of one method, target by target: the activations stay in the cache."""
        parameters = {name: value for name, value in self.parameters.items() if name in method.parameters}
        if not method.uses_gradients:
            found: Tensor = method.function(A, A, **parameters)
            return found.unsqueeze(1).expand(-1, G.shape[1], *A.shape[2:])
        return torch.stack([method.function(A, g, **parameters) for g in G.unbind(1)], dim=1)


def resolve_methods(
    names: str | Sequence[str], parameters: Mapping[str, Any]
) -> tuple[tuple[Method, ...], dict[str, Any]]:
    """The methods asked for, once each, and their parameters, each of which at least one of them has."""
    wanted = [names] if isinstance(names, str) else names
    if not isinstance(wanted, list | tuple) or not all(isinstance(name, str) for name in wanted):
        raise MethodError(f"method is a name or a list of names, got {names!r}. `saywhy methods` lists them.")
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
    found = {}
    for name, value in parameters.items():
        for method in methods:
            if name in method.parameters:
                found[name] = checked(method, name, value)
    return methods, found


def module_name(layer: str) -> str:
    """The name of the module, without the number of the call."""
    return layer.partition("#")[0]


def _probabilities(answer: ModelOutput, target_scores: TargetScores) -> Tensor | None:
    """The probability of every target that is one class, NaN for the others."""
    classes = target_scores.classes
    if bool((classes < 0).all()) or not answer.logits.shape[1]:
        return None
    values = answer.values("probability").detach().float().cpu()
    return values.gather(1, classes.clamp_min(0)).masked_fill(classes < 0, float("nan"))


def _why_not_finite(model: Model) -> str:
    broken = check_finite(model.module)
    if broken is not None:
        return f"the model's answer is NaN or infinite, because its weight '{broken}' is. Load other weights."
    return (
        "the model's answer is NaN or infinite, although its weights are finite. Is the input "
        "preprocessed as the model "
        f"expects, and is {str(model.dtype).removeprefix('torch.')} precise enough for it?"
    )


def agreement(request: Request, batch: Batch, part: BatchResult) -> tuple[str, float] | None:
    """How the copy of ``precision="fast"`` was made, and how its maps correlate with those of the model itself.

    Measured once for a model, a shape of inputs and these methods, on the first part of the batch: the lowest of all of
    its maps.
    """
    if request.precision != "fast":
        return None
    batch = batch.of_samples(slice(0, len(part.target_scores.names)))
    variant = fastest(request.model.module, batch.inputs, [module_name(c.name) for c in part.candidates])
    if variant.module is request.model.module:
        return variant.name, 1.0
    # The methods of one pass speak for those of many; where none was asked for, Grad-CAM does.
    once = tuple(m for m in request.methods if m.passes == "one")
    known = _agreements.setdefault(variant, {})
    names = tuple(m.name for m in once)
    if names not in known:
        target = request.target.of_samples(slice(0, batch.size))
        if bool((part.target_scores.classes >= 0).all()):
            target = PerSampleTarget(part.target_scores.classes)  # the copy's own top answer may be another one
        asked = replace(request, target=target, methods=once or (find_method("gradcam"),))
        exact = replace(asked, precision="exact").run(batch).maps
        fast = part.maps if once else asked.run(batch).maps
        known[names] = min(float(_correlation(fast[key].flatten(2), m.flatten(2)).min()) for key, m in exact.items())
    return variant.name, known[names]


_agreements: "WeakKeyDictionary[ModelVariant, dict[tuple[str, ...], float]]" = WeakKeyDictionary()


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation of the last axis; 1 where both are constant."""
    a, b = (t.double() - t.double().mean(-1, keepdim=True) for t in (a, b))
    size = a.norm(dim=-1) * b.norm(dim=-1)
    return torch.where(size > 0, (a * b).sum(-1) / torch.where(size > 0, size, 1.0), (a == b).all(-1).double())
