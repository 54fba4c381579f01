"""A browser, and a studio that serves it."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

import saywhy


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """One browser for all tests; skips without chromium or selenium."""
    pytest.importorskip("selenium")
    from viewer_page import browsing

    yield from browsing(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a studio with a small classifier and the demo models of VQA."""
    pytest.importorskip("fastapi")
    uvicorn = pytest.importorskip("uvicorn")
    from saywhy.datasets.registry import READERS
    from saywhy.studio.app import create_app
    from saywhy.studio.settings import StudioSettings

    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    models = {
        "toybox:classifier": saywhy.load("toybox:classifier"),
        "toybox:ucam": saywhy.load("toybox:ucam"),
        "toybox:questioner": saywhy.load("toybox:questioner"),
        "mine": saywhy.load(
            network, labels=["cat", "dog", "<img src=x onerror=window.hacked=1>", "mug"], input_size=32
        ),
    }
    drawn = READERS.find("toybox").function("test", size=384)[75].open()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = StudioSettings(port=port, per_minute=10_000)
    app = create_app(models, [("dog and bird", drawn)], settings)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Open the studio at a width, light or dark."""
    from viewer_page import Page

    def opened(width: int = 1280, dark: bool = False, path: str = "") -> Page:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        browser.get_log("browser")
        browser.get(address + path)
        return Page(browser)

    yield opened
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
