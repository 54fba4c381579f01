"""Draw many scenes in several processes, as tensors."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from saywhy.toybox import KINDS, scene

CHUNK = 250  # scenes per task: about a second of work


def draw(
    split: str,
    count: int,
    size: int = 128,
    processes: int = 0,
    report: Callable[[int], object] | None = None,
    scales: tuple[int, ...] = (1,),
) -> tuple[Tensor, Tensor]:
    """Draw the first ``count`` scenes of ``split``.

    Images are (count, 3, size, size), uint8, and labels (count, kind), float32, of 0 and 1.

    Scene i is drawn ``scales[i % len(scales)]`` times as large and reduced, as preprocessing reduces a user's image. A
    network that is trained only on scenes drawn at their final size fails on softer images.

    With ``processes`` of 0 they are drawn in this process; the result is the same. ``report`` is called with the number
    of scenes in every finished chunk.

    >>> images, labels = draw("val", 3, size=64)
    >>> images.shape, labels.shape
    (torch.Size([3, 3, 64, 64]), torch.Size([3, 20]))
    """
    images = torch.empty((count, 3, size, size), dtype=torch.uint8)
    labels = torch.empty((count, len(KINDS)))
    starts = range(0, count, CHUNK)
    work = partial(_chunk, split, count, size, scales)
    at = 0
    with mapper(processes) as mapped:
        for drawn, known in mapped(work, starts):
            images[at : at + len(drawn)] = torch.from_numpy(drawn)
            labels[at : at + len(known)] = torch.from_numpy(known)
            at += len(drawn)
            if report is not None:
                report(len(drawn))
    return images, labels


@contextmanager
def mapper(processes: int) -> Iterator[Callable]:
    """Yield ``map``, in this process or over a pool. Processes are spawned: forking a process with threads may hang."""
    if processes == 0:
        yield map
        return
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C, pending tasks are dropped


def _chunk(split: str, count: int, size: int, scales: tuple[int, ...], start: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw at most ``CHUNK`` scenes from ``start``: images (n, 3, size, size) uint8 and labels (n, kind) float32."""
    indices = range(start, min(start + CHUNK, count))
    scenes = [scene(split, index, size * scales[index % len(scales)]) for index in indices]
    images = np.stack([_resize(drawn.image, size) for drawn in scenes]).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images), np.stack([drawn.labels for drawn in scenes])


def _resize(image: np.ndarray, size: int) -> np.ndarray:
    """Resize an image with the filter of the classifier's preprocessing."""
    if len(image) == size:
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
