"""Keys of targets: equal only for targets that compute the same, and without references to the user's objects."""

import functools
import gc
import operator
import tracemalloc
import weakref
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import saywhy
from saywhy.targets import Class, Finer, PerSampleTarget, Target, Top, as_target, finer
from saywhy.targets.memory_key import identity, key_of

INDEX = 0


@dataclass
class Weighted:
    """A target function with state."""

    weights: Any = field(default=None)

    def score(self, out: Tensor) -> Tensor:
        return out @ self.weights

    def __call__(self, out: Tensor) -> Tensor:
        return self.score(out)


class Plain:
    """The same without being a dataclass."""

    def __init__(self, index: int) -> None:
        self.index = index

    def score(self, out: Tensor) -> Tensor:
        return out[:, self.index]


class Slotted:
    __slots__ = ("__weakref__", "index")

    def __init__(self, index: int) -> None:
        self.index = index

    def score(self, out: Tensor) -> Tensor:
        return out[:, self.index]


def closing_over(value: Any) -> Any:
    return lambda out: out[:, 0] * value


def of_weights(out: Tensor, weights: Tensor) -> Tensor:
    return out @ weights


def reading_global(out: Tensor) -> Tensor:
    return out[:, INDEX]


BIG = torch.arange(10_000.0)

SAME = {
    "lambda in a loop": lambda: lambda out: out[:, 1],
    "plain value": lambda: closing_over(2.0),
    "tuple": lambda: closing_over((1, [2.0, "a"])),
    "small tensor": lambda: closing_over(torch.tensor([1.0, 2.0])),
    "large tensor": lambda: closing_over(BIG),
    "array": lambda: closing_over(np.arange(3.0)),
    "partial": lambda: functools.partial(of_weights, weights=torch.tensor([1.0, 2.0])),
    "dataclass": lambda: Weighted((1.0, 2.0)).score,
    "builtin": lambda: operator.neg,
    "nested": lambda: closing_over(closing_over(3)),
    "default": lambda: lambda out, k=3: out[:, k],
    "class": lambda: Class("cat") - 0.5 * Class(3, "probability"),
    "per sample": lambda: PerSampleTarget(torch.tensor([0, 1])),
    "finer": lambda: finer("cat", similar=2),
}


@pytest.mark.parametrize("make", SAME.values(), ids=list(SAME))
def test_equal_functions_have_equal_keys(make):
    assert key_of(make()) == key_of(make())
    assert hash(key_of(make())) == hash(key_of(make()))


DIFFERENT = {
    "bound methods of two objects": (Plain(0).score, Plain(1).score),
    "of two dataclasses": (Weighted(torch.zeros(2)).score, Weighted(torch.ones(2)).score),
    "callable objects": (Weighted(torch.zeros(2)), Weighted(torch.ones(2))),
    "slots": (Slotted(0).score, Slotted(1).score),
    "closures over tensors": (closing_over(torch.zeros(2)), closing_over(torch.ones(2))),
    "over large tensors": (closing_over(torch.zeros(9999)), closing_over(torch.ones(9999))),
    "over lists": (closing_over([1, 2]), closing_over([1, 3])),
    "over functions": (closing_over(lambda x: x + 1), closing_over(lambda x: x + 2)),
    "over 1 and 1.0": (closing_over(1), closing_over(1.0)),
    "over 0.0 and -0.0": (closing_over(0.0), closing_over(-0.0)),
    "over arrays": (closing_over(np.zeros(3)), closing_over(np.ones(3))),
    "over modules": (closing_over(nn.Linear(1, 1)), closing_over(nn.Linear(1, 1))),
    "partials": (functools.partial(of_weights, weights=1), functools.partial(of_weights, weights=2)),
    "defaults": (lambda out, k=1: out[:, k], lambda out, k=2: out[:, k]),
    "keyword defaults": (lambda out, *, k=1: out[:, k], lambda out, *, k=2: out[:, k]),
    "constants": (lambda out: out[:, 1], lambda out: out[:, 2]),
    "attributes": (lambda out: out.a, lambda out: out.b),
    "classes": (Class(1), Class(2)),
    "class and label": (Class(1), Class("1")),
    "scores": (Class(1), Class(1, "probability")),
    "signs": (Class(1) - Class(2), Class(2) - Class(1)),
    "per sample": (PerSampleTarget(torch.tensor([0, 1])), PerSampleTarget(torch.tensor([1, 0]))),
    "kinds": (Top(1), Class(1)),
}


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=list(DIFFERENT))
def test_different_targets_have_different_keys(one, other):
    assert key_of(one) == key_of(one)
    assert key_of(one) != key_of(other)
    assert as_target(one).memory_key() != as_target(other).memory_key()


class TestChanges:
    def test_changed_attribute_changes_the_key(self):
        plain = Plain(0)
        before = key_of(plain.score)
        plain.index = 1
        assert key_of(plain.score) != before

    @pytest.mark.parametrize("size", [3, 9999])
    def test_tensor_written_in_place_changes_the_key(self, size):
        weights = torch.zeros(size)
        before = key_of(closing_over(weights))
        weights += 1
        assert key_of(closing_over(weights)) != before

    def test_changed_global_changes_the_key(self, monkeypatch):
        before = key_of(reading_global)
        monkeypatch.setitem(globals(), "INDEX", 1)
        assert key_of(reading_global) != before

    def test_object_at_the_place_of_a_dead_one_is_another(self):
        numbers = set()
        for _ in range(50):
            numbers.add(identity(Plain(0)))  # each at the same address, after the last one died
        assert len(numbers) == 50


class TestReferences:
    def test_recursive_function_has_a_key(self):
        def again(out: Tensor, depth: int = 1) -> Tensor:
            return again(out, depth - 1) if depth else out[:, 0]

        assert key_of(again) == key_of(again)

    def test_object_that_refers_to_itself_has_a_key(self):
        plain = Plain(0)
        plain.me = plain
        assert key_of(plain.score) == key_of(plain.score)

    def test_large_state_is_never_equal(self):
        many = list(range(5000))
        assert isinstance(key_of(closing_over(many)), tuple)
        deep = [object() for _ in range(5000)]
        assert key_of(closing_over(deep)) != key_of(closing_over(deep))

    def test_key_keeps_nothing_alive(self):
        weights, plain = torch.zeros(9999), Plain(0)
        held = [weakref.ref(weights), weakref.ref(plain)]
        keys = [
            key_of(functools.partial(of_weights, weights=weights)),
            key_of(plain.score),
            as_target(closing_over(weights)).memory_key(),
            as_target([Class(0), plain.score]).memory_key(),
        ]
        del weights, plain
        gc.collect()
        assert [reference() for reference in held] == [None, None]
        assert len({*keys}) == len(keys)


class Two(nn.Module):
    """Two branches, each with its own layer and score."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.left, self.right = (nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()) for _ in range(2))
        self.heads = nn.ModuleList([nn.Linear(4, 1) for _ in range(2)])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        both = self.left(x).flatten(2).mean(2), self.right(x).flatten(2).pow(2).mean(2)
        return {str(i): head(f)[:, 0] for i, (head, f) in enumerate(zip(self.heads, both, strict=True))}


class Reader:
    def __init__(self, name: str) -> None:
        self.name = name

    def score(self, out: dict[str, Tensor]) -> Tensor:
        return out[self.name]


class TestLayerSearch:
    def test_bound_methods_of_two_objects_get_their_own_layers(self):
        model, x = Two(), torch.rand(1, 3, 12, 12)
        found = [saywhy.explain(model, x, Reader(name).score).layers for name in ("0", "1")]
        assert found == [("left",), ("right",)]

    def test_closures_over_two_objects_get_their_own_layers(self):
        model, x = Two(), torch.rand(1, 3, 12, 12)
        readers = [Reader("0"), Reader("1")]
        found = [saywhy.explain(model, x, lambda out, r=reader: r.score(out)).layers for reader in readers]
        assert found == [("left",), ("right",)]

    @pytest.mark.slow
    def test_fresh_partials_do_not_fill_the_memory(self):
        model, x = Two(), torch.rand(1, 3, 12, 12)

        def score(out: dict[str, Tensor], weights: Tensor) -> Tensor:
            return out["0"] * weights[0]

        alive = []
        tracemalloc.start()
        try:
            for _ in range(12):
                weights = torch.ones(200_000)
                alive.append(weakref.ref(weights))
                array = np.ones(200_000)  # which tracemalloc sees
                saywhy.explain(model, x, functools.partial(score, weights=weights), keep_model=False)
                saywhy.explain(model, x, lambda out, a=array: out["0"] * float(a[0]), keep_model=False)
                del weights, array
            gc.collect()
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert sum(reference() is not None for reference in alive) == 0
        assert kept < 4e6


def test_every_target_has_a_memory_key():
    class Own(Target):
        def evaluate(self, output: Any) -> Any:
            raise NotImplementedError

    own = Own()
    assert own.memory_key() == own.memory_key()
    assert own.memory_key() != Own().memory_key()
    assert isinstance(finer(1), Finer)
