"""Everything that is asked in one call, and the one pass that answers it."""

import contextlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from saywhy.answer import Answer, ScoreKind, as_answer
from saywhy.engine import tree
from saywhy.engine.capture import Capture
from saywhy.engine.capture import capture as run_capture
from saywhy.engine.layers import find_layer, named_layer
from saywhy.engine.layout import Layout
from saywhy.engine.precision import Precision, Variant, fastest
from saywhy.engine.trace import Candidate, Question, Watching
from saywhy.errors import InputError, MethodError, WeightsError
from saywhy.inputs import Batch
from saywhy.methods.registry import Method, find_method
from saywhy.models import Model
from saywhy.models.weights import check_finite
from saywhy.targets import Columns, Target, Top
from saywhy.validity import Evidence

LayerChoice = str | nn.Module | None | Sequence[str | nn.Module]


@dataclass(frozen=True)
class Part:
    """The result for one batch."""

    columns: Columns
    probabilities: Tensor | None
    maps: dict[tuple[str, str], Tensor]
    evidence: dict[str, Evidence]
    candidates: list[Candidate]


@dataclass(frozen=True)
class Request:
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
        functions = frozenset(_same_question(f.function) for f in self.target.functions())
        target = self.target.of_samples(slice(0, 1)) if functions else Top(1)

        def scores(result: Any) -> Tensor:
            return target.columns(replace(self.answer(1, result), score="logit")).scores

        return Question(scores, key=(self.output, functions))

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

        with translated(self.model, batch):
            candidates = self.candidates(batch)
            watched = [candidate.watched() for candidate in candidates]
            module, inputs = self.model.module, batch.inputs
            if self.precision == "fast":
                variant = fastest(module, inputs, [module_name(w.name) for w in watched])
                watched = [replace(w, module=variant.module.get_submodule(module_name(w.name))) for w in watched]
                module, inputs = variant.module, variant.prepare(inputs)
            captured = run_capture(module, inputs, watched, scores, create_graph=self.create_graph, seed=self.seed)
        return captured, seen["columns"], candidates

    def run_all(self, batch: Batch, size: int | None) -> list[Part]:
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

    def run(self, batch: Batch) -> Part:
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
        return Part(
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


def _same_question(function: Callable[[Any], Tensor]) -> Hashable:
    """A key that is equal for functions that ask the same: a lambda written inside a loop is a new object every time.

    Its code counts, and what it has closed over, as far as that is a plain value.
    """
    code = getattr(function, "__code__", None)
    if code is None:
        return function if isinstance(function, Hashable) else id(function)
    cells = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    held = [*cells, *(getattr(function, "__defaults__", None) or ())]
    plain = (int, float, str, bool, bytes, type(None))
    return (code, tuple(value if isinstance(value, plain) else type(value) for value in held))


def chosen_methods(names: str | Sequence[str], parameters: Mapping[str, Any]) -> tuple[Method, ...]:
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


def module_name(layer: str) -> str:
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
def translated(model: Model, batch: Batch) -> Iterator[None]:
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


def agreement(request: Request, batch: Batch, part: Part) -> tuple[str, float] | None:
    """How the copy of ``precision="fast"`` was made, and how its maps correlate with those of the model itself.

    Measured once for a model and a shape of inputs, on the first part of the batch, over all of its maps: the lowest of
    them.
    """
    if request.precision != "fast":
        return None
    batch = batch.of_samples(slice(0, len(part.columns.names)))
    variant = fastest(request.model.module, batch.inputs, [module_name(c.name) for c in part.candidates])
    if variant.module is request.model.module:
        return variant.name, 1.0
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
