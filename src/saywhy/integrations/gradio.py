"""A Gradio app that explains a model: drop an image, choose target and method, see the map."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from saywhy.errors import MissingExtra, SaywhyError
from saywhy.explain import explain
from saywhy.models import Model, load
from saywhy.view.report import notebook_html

OWN = "the model's top class"
"""The choice of target when nothing is asked."""


def app(
    model: str | nn.Module | Model,
    methods: Sequence[str] = ("gradcam", "hirescam", "layercam"),
    examples: Sequence[str] = (),
) -> Any:
    """Return a ``gradio.Blocks`` with the viewer; ``.launch()`` serves it, and it can be part of a larger app.

    Args:
        model: as for :func:`saywhy.load`.
        methods: the methods to choose from.
        examples: files of images to begin with.

    Raises:
        MissingExtra: Gradio is not installed.
    """
    try:
        import gradio as gr
    except ImportError as error:
        raise MissingExtra(f"the app needs Gradio ({error}). Install it: pip install gradio") from error
    loaded = load(model)

    def explained(image: Any, target: str | None, method: str) -> str:
        if image is None:
            raise gr.Error("Give an image first.")
        try:
            found = explain(loaded, image, None if target in (None, "", OWN) else target, method)
        except SaywhyError as error:
            raise gr.Error(str(error)) from error
        return notebook_html(found)

    with gr.Blocks(title=f"saywhy: {loaded.name}") as blocks:
        with gr.Row():
            with gr.Column(scale=1):
                image = gr.Image(type="pil", label="Image")
                target = gr.Dropdown([OWN, *(loaded.labels or ())], value=OWN, label="Target", allow_custom_value=True)
                method = gr.Dropdown(list(methods), value=methods[0], label="Method")
                button = gr.Button("Explain", variant="primary")
                if examples:
                    gr.Examples([[file] for file in examples], [image])
            with gr.Column(scale=3):
                page = gr.HTML()
        button.click(explained, [image, target, method], page, api_name="explain")
    return blocks
