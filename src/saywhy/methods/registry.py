"""The methods by name, with paper and equation: what the command line, the documentation and the tests read."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import entry_points
from typing import Any

from torch import Tensor

from saywhy.errors import MethodError, nearest
from saywhy.methods.channel import cam, gradcam, gradcam_pp, xgradcam
from saywhy.methods.eigen import eigencam, eigengradcam
from saywhy.methods.elementwise import gradcam_elementwise, hirescam, layercam


@dataclass(frozen=True)
class Method:
    """A method of one pass.

    Attributes:
        name: the field's name, lower case with hyphens.
        function: ``(activations, gradients, **parameters) -> maps``.
        title: the name as its paper prints it.
        paper: authors and year.
        equation: the map in one line.
        scale_free: whether a score in other units gives the same normalised map.
        uses_gradients: whether the map depends on the target.
    """

    name: str
    function: Callable[..., Tensor]
    title: str
    paper: str
    equation: str
    scale_free: bool = True
    uses_gradients: bool = True

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """Keyword parameters with their defaults."""
        signature = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in signature if p.kind is p.KEYWORD_ONLY}


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("gradcam", gradcam, "Grad-CAM", "Selvaraju et al., 2017", "ReLU(Σₖ mean(Gₖ) Aₖ)"),
        Method("cam", cam, "CAM", "Zhou et al., 2016", "Σₖ wₖ Aₖ"),
        Method(
            "gradcam++",
            gradcam_pp,
            "Grad-CAM++",
            "Chattopadhay et al., 2018",
            "ReLU(Σₖ wₖ Aₖ), wₖ = Σ ReLU(Gₖ) / (2 + Gₖ ΣAₖ)",
            scale_free=False,
        ),
        Method("hirescam", hirescam, "HiResCAM", "Draelos and Carin, 2020", "ReLU(Σₖ Gₖ ⊙ Aₖ)"),
        Method("xgradcam", xgradcam, "XGrad-CAM", "Fu et al., 2020", "ReLU(Σₖ (Σ Gₖ Aₖ / Σ Aₖ) Aₖ)"),
        Method("layercam", layercam, "Layer-CAM", "Jiang et al., 2021", "ReLU(Σₖ ReLU(Gₖ) ⊙ Aₖ)"),
        Method(
            "gradcam-elementwise",
            gradcam_elementwise,
            "element-wise Grad-CAM",
            "pytorch-grad-cam, 2022",
            "Σₖ ReLU(Gₖ ⊙ Aₖ)",
        ),
        Method(
            "eigencam",
            eigencam,
            "Eigen-CAM",
            "Muhammad and Yeasin, 2020",
            "first principal component of A",
            uses_gradients=False,
        ),
        Method(
            "eigengradcam",
            eigengradcam,
            "Eigen-Grad-CAM",
            "pytorch-grad-cam, 2021",
            "first principal component of G ⊙ A",
        ),
    )
}
"""Every method by name. Packages add theirs with the entry point group ``saywhy.methods``."""


def register(method: Method) -> None:
    """Add a method of your own; it is then a choice everywhere: in Python, on the command line, in the viewer.

    Raises:
        MethodError: the name is taken.
    """
    if METHODS.get(method.name, method) is not method:
        raise MethodError(f"there is a method '{method.name}' already. Choose another name.")
    METHODS[method.name] = method


def find_method(name: str) -> Method:
    """The method of this name; entry points of other packages are looked at when the name is not ours.

    Raises:
        MethodError: there is no such method.

    >>> find_method("gradcam").paper
    'Selvaraju et al., 2017'
    """
    if name not in METHODS:
        for entry in entry_points(group="saywhy.methods"):
            register(entry.load())
    if name not in METHODS:
        likely = nearest(name, METHODS) or list(METHODS)
        raise MethodError(
            f"no method '{name}'. Nearest: {', '.join(repr(n) for n in likely)}. `saywhy methods` lists them all."
        )
    return METHODS[name]
