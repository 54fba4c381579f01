"""The settings of a request: targets, methods, layers, and how it is run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from saywhy.engine.layout import Layout
from saywhy.engine.precision import Precision
from saywhy.engine.trace import Candidate
from saywhy.errors import InputError, LayerError, MethodError, TargetError, nearest
from saywhy.methods.method import Method
from saywhy.methods.registry import find_method
from saywhy.output import ScoreKind
from saywhy.targets import Target
from saywhy.validation import checked, seed_number, short_repr, true_or_false, validate, whole_number

ARGUMENTS = (
    "target", "method", "layer", "score", "fuse", "layout", "output", "axes", "precision", "batch_size", "create_graph",
    "seed", "keep_model",
)  # fmt: skip
"""The arguments of :func:`saywhy.explain` beside the parameters of methods, for suggestions."""

LayerSpec = str | nn.Module | Candidate | None | Sequence[str | nn.Module]
"""A dotted name, a module, a list of them, or None to find the layer; inside of tasks also a declared layer."""


@dataclass(frozen=True)
class ExplainConfig:
    """All settings of a request, except the model and its inputs. Arguments as for :func:`saywhy.explain`.

    Raises:
        InputError: a setting is out of range, or two settings exclude each other.
    """

    target: Target
    methods: tuple[Method, ...] = ()
    layer: LayerSpec = None
    layout: Layout | None = None
    score: ScoreKind | None = None
    output: str | int | None = None
    precision: Precision = "exact"
    batch_size: int | None = None
    create_graph: bool = False
    seed: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        validate("precision", self.precision, Precision)
        validate("score", self.score, ScoreKind | None, TargetError)
        validate("output", self.output, str | int | None)
        true_or_false(create_graph=self.create_graph)
        object.__setattr__(self, "create_graph", bool(self.create_graph))
        if self.layout is not None and not isinstance(self.layout, Layout):
            raise InputError(f"layout must be a saywhy.Layout or none, got {type(self.layout).__name__}.")
        _check_layer(self.layer)
        if self.create_graph:
            several = [m.name for m in self.methods if m.passes == "several"]
            if several:
                raise InputError(f"create_graph=True needs methods of one pass, got {', '.join(several)}.")
            if self.precision == "fast":
                raise InputError(
                    "precision='fast' runs a copy of the model, so create_graph=True cannot train yours. Use 'exact'."
                )
        object.__setattr__(self, "seed", seed_number(self.seed))
        if self.batch_size is not None:
            object.__setattr__(self, "batch_size", whole_number("batch_size", self.batch_size, 1, 2**31))

    @property
    def shown_score(self) -> ScoreKind:
        """The kind of a class's score in the results: the one that all methods explain, or else the logit."""
        kinds = {method.score for method in self.methods}
        return self.score or (kinds.pop() if len(kinds) == 1 else "logit")

    def parameters_of(self, method: Method) -> dict[str, Any]:
        """The given parameters that a method has."""
        return {name: value for name, value in self.parameters.items() if name in method.parameters}

    def of_samples(self, some: slice | Tensor) -> "ExplainConfig":
        """The settings for some samples of the batch: each keeps its own targets."""
        return replace(self, target=self.target.of_samples(some))


def _check_layer(layer: Any) -> None:
    """Check that a layer is given as a name, a module, a list of these, or None.

    Raises:
        LayerError: it is something else.
    """
    listed = layer if isinstance(layer, list | tuple) else [layer]
    wrong = next((one for one in listed if not (one is None or isinstance(one, str | nn.Module | Candidate))), None)
    if wrong is not None:
        raise LayerError(
            "layer must be a dotted name, a module of the model, a list of these, or None to find one, got "
            f"{type(wrong).__name__}. saywhy.layers(model, image) lists the layers; [-1].name is the name of the last."
        )


def resolve_methods(
    names: str | Sequence[str], parameters: Mapping[str, Any]
) -> tuple[tuple[Method, ...], dict[str, Any]]:
    """The methods of these names, without repeats, and their checked parameters.

    Raises:
        MethodError: a name or a parameter does not exist, or a value is of the wrong type.
    """
    wanted = [names] if isinstance(names, str) else names
    if not isinstance(wanted, list | tuple) or not all(isinstance(name, str) for name in wanted):
        raise MethodError(
            f"method must be a name or a list of names, got {short_repr(names)}. `saywhy methods` lists them."
        )
    if not wanted:
        raise MethodError("method is an empty list. Give at least one; `saywhy methods` lists them.")
    methods = tuple(find_method(name) for name in dict.fromkeys(wanted))
    known = {parameter for method in methods for parameter in method.parameters}
    for name in parameters:
        if name not in known:
            likely = nearest(name, [*known, *ARGUMENTS], count=1)
            raise MethodError(
                f"{', '.join(m.name for m in methods)} has no parameter '{name}'. "
                + (f"Did you mean {likely[0]}=? " if likely else "")
                + (f"Parameters: {', '.join(sorted(known))}." if known else "It has none.")
            )
    found = {}
    for name, value in parameters.items():
        for method in methods:
            if name in method.parameters:
                found[name] = checked(method, name, value)
    return methods, found
