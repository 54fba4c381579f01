"""The hub is used only if it can be reached."""

import socket

from huggingface_hub import constants

from saywhy.models import hub


def test_a_host_that_accepts_connections_is_reachable(monkeypatch):
    monkeypatch.setattr(hub.urllib.request, "getproxies", dict)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert hub.reachable(f"http://127.0.0.1:{server.getsockname()[1]}")
    assert not hub.reachable("http://127.0.0.1:1")


def test_reachable_is_true_behind_a_proxy(monkeypatch):
    monkeypatch.setattr(hub.urllib.request, "getproxies", lambda: {"https": "http://proxy:3128"})
    assert hub.reachable("https://nowhere.invalid")


def test_hub_sets_offline_mode_only_while_unreachable(monkeypatch):
    monkeypatch.setattr(hub, "reachable", lambda _: False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with hub.hub() as reached:
        assert not reached
        assert constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE
