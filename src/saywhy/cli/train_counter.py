"""``saywhy train counter``: a counter on a data set of boxes."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saywhy.errors import InputError

BACKBONE = "toybox:classifier"
"""The default backbone: it ships, and its features are of drawn scenes."""


def train_own_counter(
    out: Path, given: Mapping[str, Any], seed: int, threads: int, accelerator: str, devices: int
) -> None:
    """Train, with progress bars, and print the results.

    Args:
        out: the safetensors file.
        given: the options that were given, by name.
        seed, threads, accelerator, devices: of the training.
    """
    from rich.progress import Progress, TaskID

    from saywhy.datasets.load import open_dataset
    from saywhy.models import load
    from saywhy.tasks.counting.train_counter import CounterSettings, train_counter
    from saywhy.training.command import run_recipe
    from saywhy.training.loop import Devices

    if "data" not in given:
        raise InputError("a counter is trained on images with boxes: give --data voc:PATH:train or coco:PATH:train.")
    settings: dict[str, Any] = {name: given[name] for name in SETTINGS if name in given}
    if "size" in given:
        settings["size"] = size_of(given["size"])
    if given.get("kind") == "glance":
        settings.setdefault("grid", 1)
    chosen = CounterSettings(seed=seed, **settings)
    data = open_dataset(given["data"])
    validation, test = (open_dataset(given[name]) if name in given else None for name in ("validation", "test"))
    backbone = load(given.get("backbone", BACKBONE), given.get("backbone-weights"))

    def train(progress: Progress) -> dict[str, str]:
        bars: dict[str, TaskID] = {}

        def told(name: str, done: int, total: int, remark: str) -> None:
            if name not in bars:
                bars[name] = progress.add_task(name, total=total, loss="")
            progress.update(bars[name], completed=done, loss=remark)

        on = Devices(accelerator, devices)
        return train_counter(
            out,
            data,
            backbone,
            chosen,
            validation=validation,
            test=test,
            told=told,
            devices=on,
        )

    run_recipe(train, threads, hidden=("count_errors",))


SETTINGS = ("kind", "grid", "hidden", "layer", "difficult", "steps")
"""The options that are settings by the same name."""


def size_of(text: str) -> tuple[int, int]:
    """Return (height, width).

    >>> size_of("480x640"), size_of("224")
    ((480, 640), (224, 224))
    """
    found = re.fullmatch(r"(\d{1,5})(?:[x×](\d{1,5}))?", text.strip())
    if found is None or int(found[1]) < 1 or int(found[2] or 1) < 1:
        raise InputError(f"--size: expected HEIGHTxWIDTH, e.g. 480x640, or one side, got {text!r}.")
    return int(found[1]), int(found[2] or found[1])
