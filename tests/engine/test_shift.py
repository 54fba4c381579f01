"""A network that undoes a shift: the same layers, the same outputs, and an unchanged original."""

import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import saywhy
from oracles.networks import TinyNetwork
from saywhy.engine import tree
from saywhy.engine.preserve import preserve_state
from saywhy.engine.shift import undoing_shift
from saywhy.errors import ModelError

OFFSET = torch.tensor(0.7, dtype=torch.float64)


def network() -> TinyNetwork:
    return TinyNetwork.build(dtype=torch.float64)


def some_images(batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_undoing_shift_gives_the_same_output_for_a_shifted_image():
    net, images = network(), some_images()
    wanted = net(images)
    with undoing_shift(net, OFFSET) as other:
        torch.testing.assert_close(other(images + OFFSET), wanted)
        torch.testing.assert_close(other(images), net(images - OFFSET))
        torch.testing.assert_close(net(images), wanted)
        assert [name for name, _ in other.named_modules()] == [name for name, _ in net.named_modules()]
        assert all(a is b for a, b in zip(other.parameters(), net.parameters(), strict=True))
        assert all(other.get_submodule(name) is part for name, part in net.named_modules() if name)


@pytest.mark.parametrize("raised", [False, True])
def test_network_state_is_restored(raised):
    net = network().train()
    net.stem.eval()
    net.register_forward_pre_hook(lambda _module, args: args)
    modes, hooks, drawn = [m.training for m in net.modules()], dict(net._forward_pre_hooks), torch.get_rng_state()
    try:
        with undoing_shift(net, OFFSET) as other:
            other(some_images())
            if raised:
                raise KeyError
    except KeyError:
        assert raised
    assert [m.training for m in net.modules()] == modes
    assert dict(net._forward_pre_hooks) == hooks
    assert not net._forward_pre_hooks_with_kwargs
    assert torch.equal(torch.get_rng_state(), drawn)


def test_user_hooks_receive_the_unshifted_image():
    net, images, seen = network(), some_images(), []
    net.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    with undoing_shift(net, OFFSET) as other:
        other(images + OFFSET)
    torch.testing.assert_close(seen[0], images)


@pytest.mark.parametrize(
    ("wrap", "given"),
    [
        (lambda x, y: (x, y), lambda a, b: (a, b)),
        (lambda first, second: (first, second), lambda a, b: {"first": a, "second": b}),
        (lambda pair: pair, lambda a, b: ([a, b],)),
        (lambda named: (named["x"], named["y"]), lambda a, b: ({"x": a, "y": b},)),
    ],
    ids=["arguments", "keywords", "list", "dict"],
)
def test_only_the_image_is_shifted(wrap, given):
    """The first of two tensors of the same shape is the image, as everywhere."""

    class Both(nn.Module):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return wrap(*args, **kwargs)

    a, b = some_images(), some_images() + 5
    with undoing_shift(Both(), OFFSET) as other:
        first, second = tree.call(other, given(a, b))
    torch.testing.assert_close(first, a - OFFSET)
    assert torch.equal(second, b)


def test_words_and_weights_are_not_shifted():
    class Asked(nn.Module):
        def forward(self, image: Tensor, words: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
            return image, words, weight

    inputs = {"image": some_images(), "words": torch.tensor([[1, 2], [3, 4]]), "weight": torch.ones(2, 8)}
    with undoing_shift(Asked(), OFFSET) as other:
        image, words, weight = other(**inputs)
    assert torch.equal(words, inputs["words"])
    assert torch.equal(weight, inputs["weight"])
    assert not torch.equal(image, inputs["image"])


def test_any_batch_size_is_accepted():
    """Methods feed altered copies of one sample, as many as they like."""
    net = network()
    with undoing_shift(net, OFFSET) as other:
        for batch in (1, 2, 7):
            torch.testing.assert_close(other(some_images(batch) + OFFSET), net(some_images(batch)))


def test_half_precision_is_kept():
    with undoing_shift(nn.Identity(), torch.tensor(0.5)) as other:
        assert other(torch.ones(1, 2, 2, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_gradient_equals_that_of_the_network():
    net, images = network(), some_images().requires_grad_()
    (wanted,) = torch.autograd.grad(net(images)[:, 1].sum(), images)
    moved = (images.detach() + OFFSET).requires_grad_()
    with undoing_shift(net, OFFSET) as other:
        (found,) = torch.autograd.grad(other(moved)[:, 1].sum(), moved)
    torch.testing.assert_close(found, wanted)


def test_shared_layers_stay_in_eval_mode_while_another_thread_runs():
    """The thread that ends first must not put layers back into training mode that the other still runs."""
    net = network().train()
    inside, done = threading.Event(), threading.Event()

    def explain_meanwhile() -> None:
        with preserve_state(net):
            inside.set()
            done.wait(10)

    other_thread = threading.Thread(target=explain_meanwhile)
    with undoing_shift(net, OFFSET) as other, preserve_state(other):
        other_thread.start()
        assert inside.wait(10)
    still = [m.training for m in net.modules()]  # the other thread is not done
    done.set()
    other_thread.join()
    assert not any(still)
    assert all(m.training for m in net.modules())

    inside.clear()
    done.clear()
    other_thread = threading.Thread(target=explain_meanwhile)
    other_thread.start()
    assert inside.wait(10)
    with undoing_shift(net, OFFSET) as other:
        done.set()
        other_thread.join()
        with preserve_state(other):
            assert not any(m.training for m in other.modules())
    assert all(m.training for m in net.modules())


def test_threads_can_explain_while_another_shifts_the_input():
    net, images = network().train(), some_images()
    wanted = saywhy.explain(net, images, 1, "saliency").maps
    wrong: list[str] = []

    def explain() -> None:
        for _ in range(15):
            if not torch.equal(saywhy.explain(net, images, 1, "saliency").maps, wanted):
                wrong.append("explained")

    def move() -> None:
        for _ in range(15):
            with undoing_shift(net, OFFSET) as other:
                found = saywhy.explain(other, images + OFFSET, 1, "saliency").maps
            if not torch.allclose(found, wanted):
                wrong.append("moved")

    threads = [threading.Thread(target=job) for job in (explain, move, explain)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert all(m.training for m in net.modules())


def test_uncopyable_network_raises():
    class Sealed(nn.Module):
        def __copy__(self) -> nn.Module:
            raise TypeError("sealed")

        def forward(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(ModelError, match=r"its input cannot be shifted .*sealed"), undoing_shift(Sealed(), OFFSET):
        pass


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("make", [lambda net: torch.jit.trace(net, some_images()), torch.jit.script])
def test_scripted_network_raises(make):
    net = make(nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()).double().eval())
    with pytest.raises(ModelError, match="takes no hooks"), undoing_shift(net, OFFSET):
        pass
    assert not net._forward_pre_hooks


def test_compiled_call_of_the_original_is_not_used():
    """``Module.compile`` binds the call to the original network, which has no shift."""
    net, images = network(), some_images()
    wanted = net(images)
    net._compiled_call_impl = net._call_impl  # what Module.compile leaves, without a compiler
    with undoing_shift(net, OFFSET) as other:
        torch.testing.assert_close(other(images + OFFSET), wanted)
