"""The entry of a Gradio Space: set SAYWHY_MODEL to the model, e.g. "torchvision:resnet50"; a demo model without it."""

import os

from saywhy.integrations.gradio import app

demo = app(os.environ.get("SAYWHY_MODEL", "toybox:classifier"))

if __name__ == "__main__":
    demo.launch()
