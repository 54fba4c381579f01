"""Maps in a logger: TensorBoard, Weights & Biases, MLflow, the loggers of Lightning, or a folder."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from saywhy.errors import InputError
from saywhy.explanation import Explanation
from saywhy.io.atomic import atomic_write
from saywhy.validation import short_repr, whole_number

Send = Callable[[str, Image.Image, int], None]
"""Sends an image under a name at a step."""


def log_maps(shown: Any, to: Any, *, step: int = 0, name: str = "why", **look: Any) -> None:
    """Send every map, drawn over its image with its legend, to a logger.

    A map keeps its name from step to step, so that a logger shows it over time: ``why/0`` for sample 0, and
    ``why/0/gradcam-1`` for its second target where there are several maps.

    Args:
        shown: an explanation, or a result that holds one.
        to: TensorBoard's ``SummaryWriter``; a run of W&B, or the module ``wandb``; the module ``mlflow``; a logger of
            Lightning, or a list of them; a folder; or a function of the name, the image and the step.
        step: the step of training.
        name: the first part of the names.
        look: as for :meth:`saywhy.Explanation.overlay`.

    Raises:
        InputError: it is no such logger, or ``look`` has another parameter.

    >>> import torch, saywhy
    >>> network = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.Flatten())
    >>> e = saywhy.explain(network, torch.rand(1, 3, 8, 8), target=0, relu=False)
    >>> log_maps(e, lambda name, image, step: print(name, image.width, step), step=7)
    why/0 320 7
    """
    step = whole_number("step", step)
    senders = [sender(one) for one in (to if isinstance(to, list | tuple) else [to])]
    for tag, image in images(getattr(shown, "explanation", shown), name, **look):
        for send in senders:
            send(tag, image, step)


def images(explanation: Explanation, name: str = "why", **look: Any) -> Iterator[tuple[str, Image.Image]]:
    """Yield a name and an overlay for every map."""
    targets = range(len(explanation.targets[0]))
    several = len(explanation.pairs) * len(targets) > 1
    for sample in range(len(explanation)):
        for method, layer in explanation.pairs:
            for target in targets:
                at = f"-{layer}" if len(explanation.layers) > 1 else ""
                tag = f"{name}/{sample}" + (f"/{method}{at}-{target}" if several else "")
                yield tag, explanation.overlay(sample, target, method=method, layer=layer, **look)


def sender(to: Any) -> Send:
    """Return the function that sends an image to a logger.

    Raises:
        InputError: it is no such logger.
    """
    if isinstance(to, str | os.PathLike):
        return _to_folder(Path(to))
    if hasattr(to, "add_image"):  # TensorBoard, tensorboardX
        return lambda tag, image, step: to.add_image(tag, np.asarray(image), step, dataformats="HWC")
    package = _package(to)
    if package == "wandb":
        return lambda tag, image, step: to.log({tag: _wandb_image(image)}, step=step)
    if package == "mlflow" and hasattr(to, "log_image"):
        return lambda tag, image, step: to.log_image(image, key=tag, step=step)
    if package in ("lightning", "pytorch_lightning"):
        return _to_lightning(to)
    if callable(to):
        return to
    raise InputError(
        "to must be a SummaryWriter, a run of W&B, the module mlflow, a logger of Lightning, a folder, or a function "
        f"of name, image and step; got {short_repr(to)}."
    )


def _package(to: Any) -> str:
    """The package that an object, or a module, comes from."""
    whole = getattr(to, "__name__", None) if isinstance(to, type(os)) else type(to).__module__
    return str(whole).partition(".")[0]


def _wandb_image(image: Image.Image) -> Any:
    import wandb

    return wandb.Image(image)


def _to_folder(folder: Path) -> Send:
    """Write ``FOLDER/NAME/STEP.png``."""

    def send(tag: str, image: Image.Image, step: int) -> None:
        with atomic_write(folder / tag / f"{step:08d}.png") as temporary:
            image.save(temporary, "PNG")

    return send


def _to_lightning(logger: Any) -> Send:
    """Send to what a logger of Lightning wraps; one that takes no images gets a folder beside its files."""
    if hasattr(logger, "log_image"):  # WandbLogger
        return lambda tag, image, step: logger.log_image(tag, [image], step=step)
    inner = logger.experiment
    if hasattr(inner, "add_image"):
        return sender(inner)
    if hasattr(inner, "log_image"):  # MLFlowLogger
        return lambda tag, image, step: inner.log_image(logger.run_id, image, key=tag.replace("/", "_"), step=step)
    folder = logger.log_dir or logger.save_dir
    if folder is None:
        raise InputError(f"{type(logger).__name__} takes no images and has no folder. Give a folder instead.")
    return _to_folder(Path(folder))


def loggers_of(trainer: Any) -> Iterable[Any]:
    """Return the loggers of a trainer of Lightning; its folder where it has none."""
    return list(trainer.loggers) or [trainer.default_root_dir]
