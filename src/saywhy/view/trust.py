"""The answer to "can this map be trusted?": the verdict of a check, or how to get one."""

import re
import shlex
from collections.abc import Mapping
from typing import Any, TypedDict

from saywhy.view.protocols import VerdictLike

_ON_THE_COMMAND_LINE = re.compile(r"[a-z][\w.-]*:\S.*|.*\.py(:\w+)?", re.DOTALL)
"""Names of models that ``--model`` takes: SOURCE:NAME, or a file; a bare network has the name of its class."""

CHECK_TAKES = frozenset(("weights", "labels", "layer", "with"))
"""Options of ``saywhy explain`` that ``saywhy check`` has too; of maps with others ``explain --check`` tests them."""

NOT_TESTED = "not tested yet (saywhy check)"
"""The answer under a map without a verdict."""


class CheckEntry(TypedDict):
    """The result of one check: ``state`` is passed, failed or not applicable."""

    name: str
    state: str
    text: str


class VerdictEntry(TypedDict):
    """The verdict on one map."""

    passed: bool
    summary: str
    checks: list[CheckEntry]


def verdict_entry(verdict: VerdictLike | None) -> VerdictEntry | None:
    """Return a verdict as plain data; None for a map that was not tested."""
    if verdict is None:
        return None
    states = {True: "passed", False: "failed", None: "not applicable"}
    checks: list[CheckEntry] = [
        {"name": one.name, "state": states[one.passed], "text": one.text} for one in verdict.results
    ]
    return {"passed": verdict.passed, "summary": verdict.summary, "checks": checks}


def check_command(provenance: Mapping[str, Any], image: str, target: str, method: str, in_python: str = "") -> str:
    """Return what tests a map: a command, or a call in Python where the command line cannot name the model.

    Args:
        provenance: of the explanation.
        image: the name of the image; for a question " · " and the question behind it.
        target: the target of the map; empty if no command can name it, as a word of a caption.
        method: the method of the map.
        in_python: how the explanation of a generated text is named, which no command can test; empty for
            others. ``{method!r}`` in it stands for the method.

    >>> check_command({"model": "torchvision:resnet50"}, "a b.jpg", "tiger cat", "gradcam")
    "saywhy check 'a b.jpg' --model torchvision:resnet50 --target 'tiger cat' --method gradcam"
    >>> check_command({"model": "torchvision:resnet18", "given": {"weights": "two.pth"}}, "a.jpg", "cat", "cam")
    'saywhy check a.jpg --model torchvision:resnet18 --weights two.pth --target cat --method cam'
    >>> check_command({"model": "toybox:vqa", "given": {"layer": "a", "score": "probability"}}, "a.jpg", "cat", "cam")
    'saywhy explain a.jpg --model toybox:vqa --layer a --score probability --target cat --method cam --check'
    >>> check_command({"model": "ResNet"}, "a.jpg", "cat", "layercam")
    "saywhy.check(e, method='layercam').save('check.html')"
    """
    model = str(provenance.get("model", ""))
    if in_python or not target or not _ON_THE_COMMAND_LINE.fullmatch(model):
        return f"saywhy.check({(in_python or 'e').format(method=method)}, method={method!r}).save('check.html')"
    file, _, question = image.partition(" · ")
    given = {option: str(value).split("\n") for option, value in dict(provenance.get("given") or {}).items()}
    known = given.keys() <= CHECK_TAKES and len(given.get("layer", ())) < 2
    words = ["saywhy", "check" if known else "explain", file, "--model", model]
    for option, values in given.items():
        words += [word for value in values for word in (f"--{option}", value)]
    words += ["--question", question] if question else []
    return shlex.join([*words, "--target", target, "--method", method, *([] if known else ["--check"])])
