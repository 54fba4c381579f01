"""Running a request: one forward and one backward pass for all one-pass methods, then the methods of several passes."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from saywhy.diagnostics import Evidence
from saywhy.engine import tree
from saywhy.engine.autocast import outside_autocast
from saywhy.engine.capture import Capture, LayerNotRun, Watched
from saywhy.engine.capture import capture as run_capture
from saywhy.engine.memory import samples_within
from saywhy.engine.no_gradient import alterations
from saywhy.engine.precision import fastest
from saywhy.engine.preserve import exclusive_run
from saywhy.engine.runner import ModelRunner, input_layer
from saywhy.engine.sampling import IMAGE
from saywhy.engine.trace import Candidate
from saywhy.errors import GradientError, SaywhyWarning
from saywhy.explainer.batch_result import BatchResult, concatenated, merged
from saywhy.explainer.chunks import run_in_parts
from saywhy.explainer.config import ExplainConfig
from saywhy.explainer.layers import INPUT, LayerChoice, check_layer_names, module_name
from saywhy.explainer.outputs import model_output, target_probabilities, target_scores
from saywhy.methods.method import AttributionResult, Method
from saywhy.models import Model
from saywhy.models.inputs import Batch, black_of, translated
from saywhy.models.outputs import settle, settled
from saywhy.output import ModelOutput, ScoreKind
from saywhy.shapes import at_least_float32
from saywhy.targets import Target, TargetScores


@dataclass(frozen=True)
class _Form:
    """The network in the form in which it runs (itself or a faster copy), and its inputs in that form."""

    module: nn.Module
    inputs: Any

    def watched(self, candidate: Candidate) -> Watched:
        """A layer of this form of the network."""
        watched = candidate.watched()
        return replace(watched, module=self.module.get_submodule(module_name(watched.name)))


@dataclass(frozen=True)
class _FirstPass:
    """One pass over a batch: its form and layers, the network's output, the maps of one-pass methods by (method,
    layer), evidence by layer, the shapes of the layers' activations, and for which scores [batch, target] a branch has
    a gradient that had none when the layers were found.
    """

    form: _Form
    layers: dict[str, Watched]
    output: ModelOutput
    target_scores: TargetScores
    maps: dict[tuple[str, str], Tensor]
    evidence: dict[str, Evidence]
    shapes: dict[str, tuple[int, ...]]
    new_branch: Tensor | None = None

    @property
    def rows(self) -> set[int]:
        """How many rows the layers' activations have."""
        return {shape[0] for shape in self.shapes.values()}


_GIVEN_UP = 3
"""After so many samples for which no other layer was found, scores without a gradient are taken as such."""


@dataclass(frozen=True)
class Runner:
    """Runs a request on batches.

    Attributes:
        model: the model; its state is preserved.
        config: the settings.
        resolved_layers: layers that are already proved; () resolves them for each batch.
    """

    model: Model
    config: ExplainConfig
    resolved_layers: Sequence[Candidate] = ()

    def model_output(self, samples: int, raw: Any, score: ScoreKind = "logit") -> ModelOutput:
        """The class scores in the model's output, in at least float32: half precision would lose small differences."""
        found = model_output(self.model, self.config, samples, _at_least_float32(raw), score)
        narrow = [t.dtype for t in tree.tensors(raw) if t.dtype in (torch.float16, torch.bfloat16)]
        return replace(found, dtype=narrow[0]) if narrow else found

    def with_config(self, **changes: Any) -> "Runner":
        """The runner with some settings changed."""
        return replace(self, config=replace(self.config, **changes))

    def capture(self, batch: Batch) -> tuple[Capture, TargetScores, list[Candidate]]:
        """One pass over a batch, with the layers watched; of several branches the first on which a score depends.

        Warns if other branches carry evidence too, and there is no layer before them.
        """
        with outside_autocast(), translated(self.model, batch):
            settle(self.model, self.config.output, batch, self.config.seed)
            choice = None if self.resolved_layers else LayerChoice(self.model, self.config, batch)
            while True:
                layers = list(self.resolved_layers) if choice is None else choice.candidates
                form = self._form(batch, layers)
                try:
                    captured, scores, _ = self._pass(form, [form.watched(c) for c in layers], batch.size)
                except LayerNotRun:
                    if choice is None or not choice.reconsider(0, instead=True):
                        raise
                    continue
                if choice is None or not any(c.group for c in layers):
                    return captured, scores, layers
                gradients = captured.gradients()
                alive = [name for name in choice.found if bool(gradients[name].any())]
                if len(alive) > 1:
                    warnings.warn(
                        f"the score depends on the image through {' and '.join(map(repr, alive))}; only {alive[0]!r} "
                        "is taken. Name the layers: layer=[...].",
                        SaywhyWarning,
                        stacklevel=3,
                    )
                choice.keep((alive or choice.found)[0])

    def run_all(self, batch: Batch, size: int | None) -> list[BatchResult]:
        """Run a batch, in parts of at most ``size`` samples, or of as many as fit into the memory budget."""
        return run_in_parts(self, batch, size)

    def run(self, batch: Batch) -> BatchResult:
        """Compute the maps of all methods, layers and targets for one batch.

        Layers are found again for samples whose score does not depend on those that are known. Samples that the network
        does not run together, or of which it sees other parts, are explained one by one.
        """
        with outside_autocast(), translated(self.model, batch):
            choice = self._choice(batch)
            given_up: set[int] = set()
            while True:
                candidates = self._candidates(choice)
                if batch.size > 1 and choice is not None and any(c.of_one_sample for c in candidates):
                    return self._one_by_one(batch)
                try:
                    first = self._first_pass(batch, candidates, choice.without_gradient if choice else ())
                except LayerNotRun:
                    if batch.size > 1:
                        return self._one_by_one(batch)
                    if choice is None or not choice.reconsider(0, instead=True):
                        raise
                    continue
                if first.rows - {batch.size} and batch.size > 1:
                    return self._one_by_one(batch)
                if choice is None or not self._changed(choice, first, given_up):
                    break
        every = choice is None
        candidates = [candidate.sized(first.shapes.get(candidate.name)) for candidate in candidates]
        return merged(self._all_passes(batch, candidates, first), every)

    @property
    def _needs_gradients(self) -> bool:
        return any(method.needs_gradients for method in self.config.methods)

    def _choice(self, batch: Batch) -> LayerChoice | None:
        """The choice of layers; None if they are resolved already, or no method needs one."""
        if not any(m.at == "layer" for m in self.config.methods):
            check_layer_names(self.model, self.config)
            return None
        return None if self.resolved_layers else LayerChoice(self.model, self.config, batch)

    def _candidates(self, choice: LayerChoice | None) -> list[Candidate]:
        if choice is not None:
            return choice.candidates
        return list(self.resolved_layers) if any(m.at == "layer" for m in self.config.methods) else []

    def _one_by_one(self, batch: Batch) -> BatchResult:
        return concatenated(self.run_all(batch, 1))

    def _changed(self, choice: LayerChoice, first: "_FirstPass", given_up: set[int]) -> bool:
        """Whether other layers were chosen, because of scores that depend on none of the layers."""
        known = [first.evidence[name].gradient for name in choice.found if name in first.evidence]
        if not known:
            return False
        alive = torch.stack([g.detach() != 0 for g in known])  # (layer, batch, target)
        reached = alive.any(0)  # (batch, target)
        if first.new_branch is not None:
            reached = reached & ~first.new_branch
        if bool(reached.all()):
            return False
        for sample, row in enumerate(reached.tolist()):
            missing = any(name and not r for name, r in zip(first.target_scores.names[sample], row, strict=True))
            if sample in given_up or not missing or len(given_up) == _GIVEN_UP:
                continue
            if choice.reconsider(sample, instead=False):
                return True
            given_up.add(sample)
        return False

    def _watched(
        self, batch: Batch, candidates: Sequence[Candidate]
    ) -> tuple[_Form, dict[str, Watched], list[Watched]]:
        """The network's form, the layers of all methods by name, and those that the one pass watches."""
        form = self._form(batch, candidates)
        layers = {c.name: form.watched(c) for c in candidates}
        if any(m.at == "input" for m in self.config.methods):
            layers[INPUT] = input_layer(form.inputs)
        image = any(m.at == "input" and m.passes == "one" for m in self.config.methods)
        return form, layers, [w for w in layers.values() if w.module is not None or image]

    def _first_pass(
        self, batch: Batch, candidates: Sequence[Candidate], without_gradient: Sequence[Candidate] = ()
    ) -> "_FirstPass":
        """The pass of all one-pass methods, from which the targets are known too.

        without_gradient: layers that are watched for a gradient, and not explained.
        """
        one_pass = [m for m in self.config.methods if m.passes == "one"]
        form, layers, watched = self._watched(batch, candidates)
        beside = [replace(form.watched(c), optional=True) for c in without_gradient if self._needs_gradients]
        watched = [*watched, *beside]
        if all(w.module is not None for w in watched):  # else the pass has the whole graph, and shows it itself
            settle(self.model, self.config.output, batch, self.config.seed)
        if not watched:
            scores, output = self._forward(form, batch.size)
            return _FirstPass(form, layers, output, scores, {}, {}, {})
        needs = self._needs_gradients
        captured, scores, output = self._pass(form, watched, batch.size, needs_gradients=needs)
        if not settled(self.model, self.config.output):
            settle(self.model, self.config.output, batch, self.config.seed)
            captured, scores, output = self._pass(form, watched, batch.size, needs_gradients=needs)
        shapes = {name: tuple(a.shape) for name, a in captured.activations.items() if name in layers}
        maps: dict[tuple[str, str], Tensor] = {}
        evidence: dict[str, Evidence] = {}
        if {shape[0] for shape in shapes.values()} == {batch.size}:
            try:
                maps, evidence = self._one_pass_maps(captured, one_pass)
            except GradientError:
                if needs:
                    raise
                maps = self._activation_maps(captured, one_pass)
        maps = {
            key: layers[key[1]].layout.on_image(some, batch.space) for key, some in maps.items() if key[1] in layers
        }
        gradients = [evidence.pop(w.name).gradient.detach() for w in beside if w.name in evidence]
        new_branch = torch.stack([g != 0 for g in gradients]).any(0) if gradients else None
        return _FirstPass(form, layers, output, scores, maps, evidence, shapes, new_branch)

    def _all_passes(self, batch: Batch, candidates: list[Candidate], first: "_FirstPass") -> BatchResult:
        """The result with the methods of several passes."""
        maps, attributions = dict(first.maps), {}
        _warn_of_moving_positions(candidates, self.config.methods)
        with outside_autocast(), translated(self.model, batch):
            for method in self.config.methods:
                if method.passes == "several":
                    # The targets are those of the unaltered image.
                    target = self.config.target.resolved(first.output)
                    runner = self._model_runner(first.form, batch, target, method.score)
                    for layer in first.layers.values():
                        if (layer.module is None) == (method.at == "input"):
                            found = self._several_passes(method, runner.at(layer))
                            attributions[method.name, layer.name] = found
                            maps[method.name, layer.name] = found.maps
        order = [(m.name, name) for m in self.config.methods for name in first.layers if (m.name, name) in maps]
        return BatchResult(
            target_scores=first.target_scores,
            probabilities=target_probabilities(first.output, first.target_scores),
            maps={key: maps[key] for key in order},
            attributions=attributions,
            evidence=first.evidence,
            layers=candidates,
            shown={candidate.name: candidate for candidate in candidates},
            scale=first.output.scale,
            score=first.output.score,
            dtype=first.output.dtype,
        )

    def samples_within(self, budget_bytes: int, batch: Batch) -> int:
        """The number of samples whose pass fits into a memory budget, by the memory of this batch of one sample."""
        with outside_autocast(), translated(self.model, batch):
            form, _, watched = self._watched(batch, self._candidates(self._choice(batch)))

            def run_one() -> object:
                if not watched:
                    return self._forward(form, batch.size)
                return self._pass(form, watched, batch.size, needs_gradients=self._needs_gradients)

            return samples_within(budget_bytes, form.module, run_one)

    def perturbable(self, batch: Batch) -> bool:
        """Whether scores can be computed again, and change, with another image, or other outputs of each layer."""
        with outside_autocast(), translated(self.model, batch):
            first = self._first_pass(batch, self._candidates(self._choice(batch)))
            target = self.config.target.resolved(first.output)
            runner = self._model_runner(first.form, batch, target, self.config.shown_score)
            for layer in first.layers.values():
                if layer.module is None:
                    images = torch.cat([runner.image[:1], *alterations(runner.image[:1])])
                    found = runner.scores(images, torch.zeros(len(images), dtype=torch.long))
                else:
                    replay = runner.at(layer).replay(0)
                    found = replay.scores(torch.cat([replay.activations, *alterations(replay.activations)]))
                if not bool(torch.isfinite(found).all()) or bool((found == found[:1]).all()):
                    return False
        return True

    def predict(self, batch: Batch) -> ModelOutput:
        """The model output of one pass without gradients, before any target."""
        with outside_autocast(), translated(self.model, batch):
            settle(self.model, self.config.output, batch, self.config.seed)
            _, output = self._forward(self._form(batch, self.resolved_layers), batch.size)
        return output

    def with_resolved_target(self, batch: Batch) -> "Runner":
        """The runner with its target resolved to the model's current outputs."""
        return self.with_config(target=self.config.target.resolved(self.predict(batch)))

    def model_runner(self, batch: Batch, score: ScoreKind) -> ModelRunner:
        """A model runner for altered images; ``score`` is the kind of class scores."""
        with outside_autocast(), translated(self.model, batch):
            settle(self.model, self.config.output, batch, self.config.seed)
        form = self._form(batch, self.resolved_layers)
        return self.with_config(score=None)._model_runner(form, batch, self.config.target, score)

    def _form(self, batch: Batch, candidates: Sequence[Candidate]) -> _Form:
        """The model itself, or the copy that runs fastest on this machine."""
        module, inputs = self.model.module, batch.inputs
        if self.config.precision == "exact":
            return _Form(module, inputs)
        variant = fastest(module, inputs, [module_name(c.name) for c in candidates])
        return _Form(variant.module, variant.prepare(inputs))

    def _pass(
        self, form: _Form, watched: Sequence[Watched], samples: int, *, needs_gradients: bool = True
    ) -> tuple[Capture, TargetScores, ModelOutput]:
        found: list[tuple[TargetScores, ModelOutput]] = []

        def scores(raw: Any) -> Tensor:
            output = self.model_output(samples, raw, self.config.shown_score)
            found.append((target_scores(self.config.target, output), output))
            return found[-1][0].scores

        captured = run_capture(
            form.module,
            form.inputs,
            watched,
            scores,
            create_graph=self.config.create_graph,
            needs_gradients=needs_gradients,
            seed=self.config.seed,
        )
        targets, output = found[-1]
        return captured, replace(targets, scores=captured.scores), output

    def _forward(self, form: _Form, samples: int) -> tuple[TargetScores, ModelOutput]:
        """The scores and the output only, for methods that watch no layer."""
        inputs = tree.escape_inference(form.inputs)
        with exclusive_run(form.module, seed=self.config.seed), torch.inference_mode(False), torch.no_grad():
            raw = tree.call(form.module, inputs)
            output = self.model_output(samples, raw, self.config.shown_score)
            return target_scores(self.config.target, output), output

    def _one_pass_maps(
        self, captured: Capture, methods: Sequence[Method]
    ) -> tuple[dict[tuple[str, str], Tensor], dict[str, Evidence]]:
        maps: dict[tuple[str, str], list[Tensor]] = {}
        evidence: dict[str, list[Evidence]] = {}
        with torch.set_grad_enabled(self.config.create_graph), torch.inference_mode(False):
            activations = {name: at_least_float32(a) for name, a in captured.activations.items()}
            for _, gradients in captured.chunks():
                for name, found in gradients.items():
                    A, G = activations[name], at_least_float32(found)
                    statistics = Evidence.of(A, G)
                    check_gradient(name, statistics)
                    evidence.setdefault(name, []).append(statistics)
                    for method in methods:
                        if (method.at == "input") == (name == INPUT):
                            maps.setdefault((method.name, name), []).append(self._maps(method, A, G))
        return (
            {key: torch.cat(some, dim=1) for key, some in maps.items()},
            {name: Evidence.joined(some) for name, some in evidence.items()},
        )

    def _activation_maps(self, captured: Capture, methods: Sequence[Method]) -> dict[tuple[str, str], Tensor]:
        """The maps of methods that need no gradient, for a score that has none."""
        targets = captured.scores.shape[1]
        with torch.no_grad(), torch.inference_mode(False):
            return {
                (method.name, name): self._class_agnostic_map(method, at_least_float32(A), targets)
                for name, A in captured.activations.items()
                for method in methods
                if (method.at == "input") == (name == INPUT)
            }

    def _class_agnostic_map(self, method: Method, A: Tensor, targets: int) -> Tensor:
        """One map [batch, *space] of the activations, repeated for every target."""
        found: Tensor = method.function(A, A, **self.config.parameters_of(method))
        return found.unsqueeze(1).expand(-1, targets, *A.shape[2:])

    def _maps(self, method: Method, A: Tensor, G: Tensor) -> Tensor:
        """Maps [batch, target, *space] of one method, target by target, so that the activations stay in the cache."""
        if not method.uses_gradients:
            return self._class_agnostic_map(method, A, G.shape[1])
        parameters = self.config.parameters_of(method)
        return torch.stack([method.function(A, g, **parameters) for g in G.unbind(1)], dim=1)

    def _several_passes(self, method: Method, runner: ModelRunner) -> AttributionResult:
        with torch.inference_mode(False):
            found: Tensor | AttributionResult = method.function(runner, **self.config.parameters_of(method))
        result = found if isinstance(found, AttributionResult) else AttributionResult(found)
        if method.grid == "layer":
            return replace(result, maps=runner.on_image(result.maps))
        return result

    def _model_runner(self, form: _Form, batch: Batch, target: Target, kind: ScoreKind) -> ModelRunner:
        """A model runner with a fixed target, for methods of several passes."""

        def output(raw: Any, samples: Tensor, score: ScoreKind = "logit") -> ModelOutput:
            return self.model_output(len(samples), raw, score)

        return ModelRunner(
            model=form.module,
            inputs=form.inputs,
            layer=input_layer(form.inputs),
            score=lambda raw, samples: target_scores(target.of_samples(samples), output(raw, samples, kind)).scores,
            probabilities=lambda raw, samples: output(raw, samples, "probability").values("probability"),
            attention=lambda raw, samples: target.of_samples(samples).attention(output(raw, samples)),
            black=black_of(self.model, batch.space),
            seed=self.config.seed,
            batch_size=1 if tree.one_at_a_time(form.inputs) else self.config.batch_size,
        )


def check_gradient(layer: str, evidence: Evidence) -> None:
    """Check that the gradients at a layer are finite.

    Raises:
        GradientError: one is NaN or infinite.
    """
    if not bool(torch.isfinite(evidence.gradient).all()):
        raise GradientError(
            f"the gradient at layer '{layer}' is NaN or infinite, although the score is finite. A function has no "
            "slope there (a root or norm of 0, a division by nearly 0), or its numbers are too large for the dtype: "
            "change the target or the network there, or use float32."
        )


def _at_least_float32(raw: Any) -> Any:
    """A model's output with tensors of at least float32; the object itself where they are."""
    if all(not t.is_floating_point() or t.dtype in (torch.float32, torch.float64) for t in tree.tensors(raw)):
        return raw
    return tree.map_tensors(raw, lambda t: at_least_float32(t) if t.is_floating_point() else t)


def _warn_of_moving_positions(layers: Sequence[Candidate], methods: Sequence[Method]) -> None:
    """Warn that methods which run altered images read a layer whose positions lie elsewhere for those."""
    moving = [c.name for c in layers if IMAGE in c.sampling.positions | c.sampling.conditions]
    several = [m.name for m in methods if m.at == "layer" and m.passes == "several"]
    if moving and several:
        warnings.warn(
            f"where the positions of layer '{moving[0]}' lie depends on the image's content (a crop, a flip or sampled "
            f"positions), so that altered images have them elsewhere: the maps of {', '.join(several)} may mix places. "
            "Methods of one pass ('gradcam') and of the image itself ('integrated-gradients', 'occlusion') do not.",
            SaywhyWarning,
            stacklevel=2,
        )
