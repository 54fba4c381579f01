"""Several threads that explain with one model at once get the maps that one thread gets."""

import asyncio
import concurrent.futures
import contextlib
import copy
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import saywhy
from kinds import ATTENTION, HEADS
from oracles.networks import TinyNetwork, TinyTransformer
from saywhy.engine.exclusive import exclusive
from saywhy.engine.preserve import preserve_state
from saywhy.methods import METHODS

pytestmark = pytest.mark.filterwarnings("ignore::saywhy.errors.SaywhyWarning")  # of maps that are zero everywhere

THREADS = 4

SMALL: dict[str, dict[str, Any]] = {
    "lime": {"num_samples": 12, "cells": 2},
    "kernelshap": {"num_samples": 12, "cells": 2},
    "rise": {"masks": 8, "cells": 3},
    "occlusion": {"window": 6, "stride": 6},
    **{name: {"num_samples": 3} for name in ("smoothgrad", "vargrad", "smooth-gradcam++", "sscam")},
    **{name: {"steps": 3} for name in ("integrated-gradients", "integrated-gradcam", "conductance", "iscam")},
    "rsi-gradcam": {"steps": 3},
}
"""Settings of methods of many passes that keep them short."""

REPLAYED = ("gradcam", "reciprocam", "ablationcam", "scorecam")
"""Methods that watch a layer or replace its output."""


def network_for(method: str) -> nn.Module:
    """A tiny network that a method takes, in training mode."""
    tokens = method in ATTENTION
    form = {"head": HEADS[method]} if method in HEADS and not tokens else {}
    return (TinyTransformer if tokens else TinyNetwork).build(dtype=torch.float32, **form).train()


def maps_of(network: nn.Module, method: str, image: Tensor) -> Tensor:
    layout = saywhy.Layout("tokens", (6, 6), prefix=1) if method in ATTENTION else None
    found = saywhy.explain(network, image, 1, method, "features", layout=layout, **SMALL.get(method, {}))
    return next(iter(found.values.values()))


def images_of(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(1, 3, 12, 12, generator=generator) for _ in range(count)]


def in_threads(jobs: list[Callable[[], Any]]) -> list[Any]:
    """The results of jobs that threads begin at the same moment."""
    barrier = threading.Barrier(len(jobs))

    def begin(job: Callable[[], Any]) -> Any:
        barrier.wait(60)
        return job()

    with concurrent.futures.ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result(120) for future in [pool.submit(begin, job) for job in jobs]]


def state_of(network: nn.Module) -> list[Any]:
    """All that a call may leave behind: modes, hooks, buffers, gradients' flags."""
    return [
        [
            module.training,
            *(len(getattr(module, name)) for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")),
            [None if b is None else b.tolist() for b in module._buffers.values()],
            [None if p is None else (p.requires_grad, p.grad) for p in module._parameters.values()],
        ]
        for module in network.modules()
    ]


@contextlib.contextmanager
def meanwhile(job: Callable[[], Any]) -> Iterator[list[Any]]:
    """Within the block, another thread repeats a job; yields the list of its results."""
    done, results = threading.Event(), []

    def repeat() -> None:
        while not done.is_set():
            results.append(job())

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield results
    finally:
        done.set()
        thread.join(60)


def assert_threads_get_serial_maps(method: str, asks: int, cold: bool) -> None:
    """Each of four threads asks for the maps of the same images, and gets those of one thread."""
    network, images = network_for(method), images_of(2)
    before, expected = state_of(network), [maps_of(copy.deepcopy(network), method, image) for image in images]
    shared = copy.deepcopy(network) if cold else network
    if not cold:
        maps_of(shared, method, images[0])

    def ask() -> list[Tensor]:
        return [maps_of(shared, method, images[i % 2]) for i in range(asks)]

    for found in in_threads([ask] * THREADS):
        for i, maps in enumerate(found):
            torch.testing.assert_close(maps, expected[i % 2], rtol=0, atol=0)
    assert state_of(shared) == before


@pytest.mark.parametrize("cold", [True, False], ids=["cold", "warm"])
@pytest.mark.parametrize("method", REPLAYED)
def test_four_threads_get_the_serial_maps(method, cold):
    assert_threads_get_serial_maps(method, asks=2, cold=cold)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_four_threads_get_the_serial_maps_of_every_method(method):
    for cold in (True, False):
        assert_threads_get_serial_maps(method, asks=3, cold=cold)


@pytest.mark.nightly
@pytest.mark.parametrize("method", METHODS)
def test_three_thousand_asks_of_threads_get_the_serial_maps(method):
    """4 threads x 5 asks, cold twice and warm twice: 80 asks of each of about 40 methods."""
    for cold in (True, False, True, False):
        assert_threads_get_serial_maps(method, asks=5, cold=cold)


def search_net() -> nn.Module:
    """A network whose layer must be searched and proved."""
    torch.manual_seed(3)
    features = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 5, 3, 2, 1), nn.ReLU()
    )
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)).eval()


def test_first_calls_of_threads_find_the_serial_layer():
    image, wanted = torch.rand(1, 3, 16, 16), saywhy.explain(search_net(), torch.rand(1, 3, 16, 16), 1).layers
    network = search_net()

    def ask() -> tuple[tuple[str, ...], int]:
        return saywhy.explain(network, image, 1).layers, len(saywhy.layers(network, image))

    found = in_threads([ask] * THREADS)
    assert found == [(wanted, len(saywhy.layers(search_net(), image)))] * THREADS


def test_fast_precision_of_threads_gives_the_serial_maps():
    image, network = torch.rand(1, 3, 16, 16), search_net()
    wanted = saywhy.explain(search_net(), image, 1).maps
    found = in_threads([lambda: saywhy.explain(network, image, 1, precision="fast").maps] * THREADS)
    for maps in found:
        torch.testing.assert_close(maps, wanted, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("method", REPLAYED)
def test_inference_of_another_thread_changes_no_map_and_no_output(method):
    network, (image, other) = search_net(), (torch.rand(1, 3, 16, 16), torch.rand(7, 3, 16, 16))
    expected, output = saywhy.explain(search_net(), image, 1, method).maps, network(other)
    with meanwhile(lambda: network(other)) as outputs:
        cold = [saywhy.explain(one, image, 1, method).maps for one in [network] * 3]
    for maps in cold:
        torch.testing.assert_close(maps, expected, rtol=0, atol=0)
    for one in outputs:
        torch.testing.assert_close(one, output)


def test_networks_that_share_a_backbone_take_turns():
    backbone = search_net()[0].train()
    heads = [nn.Sequential(backbone, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)) for _ in range(2)]
    image = torch.rand(1, 3, 16, 16)
    expected = [saywhy.explain(copy.deepcopy(head), image, 1, "scorecam", "0").maps for head in heads]
    jobs = [lambda head=head: saywhy.explain(head, image, 1, "scorecam", "0").maps for head in heads]
    for _ in range(2):
        for found, wanted in zip(in_threads(jobs * 2), expected * 2, strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    assert all(module.training for head in heads for module in head.modules())


def test_networks_of_their_own_do_not_wait_for_one_another():
    one, two, entered = nn.ReLU(), nn.ReLU(), threading.Event()

    def hold_two() -> None:
        with exclusive(two):
            entered.set()

    with exclusive(one):
        thread = threading.Thread(target=hold_two)
        thread.start()
        assert entered.wait(10)
    thread.join(10)


def test_a_second_thread_waits_until_the_first_has_finished():
    part, order = nn.ReLU(), []
    whole = nn.Sequential(part)

    def second() -> None:
        with exclusive(whole):
            order.append("second")

    with exclusive(part), exclusive(part):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.05)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_threads_that_wait_for_one_another_do_not_wait_for_ever():
    """Targets of the user may explain another model, in any order."""
    nets, barrier = (nn.ReLU(), nn.ReLU()), threading.Barrier(2)

    def nest(first: nn.Module, second: nn.Module) -> bool:
        with exclusive(first):
            barrier.wait(10)
            with exclusive(second):
                return True

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(nest, *nets), pool.submit(nest, *nets[::-1])]
        assert [future.result(10) for future in futures] == [True, True]


@pytest.mark.parametrize("method", ["lime", "kernelshap"])
def test_surrogates_draw_no_global_random_numbers(method):
    pytest.importorskip("captum")
    network, (image,) = network_for(method).eval(), images_of(1)
    expected = maps_of(network, method, image)
    with meanwhile(lambda: torch.rand(3)):
        found = [maps_of(network, method, image) for _ in range(3)]
    for maps in found:
        torch.testing.assert_close(maps, expected, rtol=0, atol=0)


def test_random_state_is_restored_when_blocks_of_threads_overlap():
    torch.manual_seed(7)
    expected, inside, leave = torch.default_generator.get_state(), threading.Event(), threading.Event()

    def block() -> None:
        with preserve_state(nn.ReLU(), seed=1):
            torch.rand(1)
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=block)
    thread.start()
    inside.wait(10)
    with preserve_state(nn.ReLU(), seed=2):
        torch.rand(2)
        leave.set()
        thread.join()
    assert torch.equal(torch.default_generator.get_state(), expected)


def test_filters_of_warnings_are_as_before_when_threads_have_finished():
    import warnings

    network, image, before = search_net(), torch.rand(1, 3, 16, 16), list(warnings.filters)

    def ask() -> None:
        for _ in range(8):
            saywhy.explain(network, image, [0, 1, 2, 0, 1], relu=False)  # so many targets run as one batch

    in_threads([ask] * THREADS)
    assert list(warnings.filters) == before


def test_asyncio_server_answers_as_one_thread_does():
    network, images = search_net(), [torch.rand(1, 3, 16, 16) for _ in range(3)]
    methods = ["gradcam", "reciprocam", "scorecam"]
    requests = [(image, method) for image in images for method in methods]
    expected = [saywhy.explain(search_net(), image, 1, method).maps for image, method in requests]

    def answer(image: Tensor, method: str) -> Tensor:
        return saywhy.explain(network, image, 1, method).maps

    async def serve() -> list[Tensor]:
        loop = asyncio.get_running_loop()
        with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
            half = [asyncio.to_thread(answer, *request) for request in requests[::2]]
            rest = [loop.run_in_executor(pool, answer, *request) for request in requests[1::2]]
            first, second = await asyncio.gather(asyncio.gather(*half), asyncio.gather(*rest))
        found: list[Tensor] = [torch.empty(0)] * len(requests)
        found[::2], found[1::2] = first, second
        return found

    for found, wanted in zip(asyncio.run(serve()), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)
