"""Limits of what is read: files that declare gigabytes, nest without end, or are damaged."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import saywhy
from saywhy import Explanation
from saywhy.datasets.json_records import read_json
from saywhy.datasets.localized import contents
from saywhy.errors import InputError, SaywhyError


@pytest.fixture
def saved(tiny: Callable[..., nn.Module], images: Callable[..., Any], tmp_path: Path) -> Path:
    """An explanation in a file."""
    return saywhy.explain(tiny(), images(1), [0, 1], relu=False).save(tmp_path / "a.npz")


def rewritten(path: Path, name: str, change: Callable[[bytes], bytes], method: int = zipfile.ZIP_DEFLATED) -> None:
    """Replace one entry of an archive."""
    with zipfile.ZipFile(path) as archive:
        parts = {entry: archive.read(entry) for entry in archive.namelist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for entry, data in parts.items():
            archive.writestr(entry, change(data) if entry == f"{name}.npy" else data)


def header_of(shape: tuple[int, ...], dtype: str) -> bytes:
    """The header of an array without its values."""
    made = io.BytesIO()
    np.lib.format.write_array_header_1_0(made, {"descr": dtype, "fortran_order": False, "shape": shape})
    return made.getvalue()


def as_array(text: str) -> Callable[[bytes], bytes]:
    def made(_: bytes) -> bytes:
        out = io.BytesIO()
        np.save(out, np.array(text))
        return out.getvalue()

    return made


def test_an_archive_that_unpacks_to_more_than_the_limit_is_refused(saved: Path, monkeypatch: Any) -> None:
    rewritten(saved, "scores", lambda data: header_of((2**21,), "|u1") + bytes(2**21))
    monkeypatch.setattr("saywhy.io.limits.MAX_BYTES", 2**20)
    with pytest.raises(InputError, match=r"a\.npz' is refused before it is read: .*SAYWHY_MAX_BYTES"):
        Explanation.load(saved)


@pytest.mark.parametrize("shape", [(2**40,), (2**20, 2**20, 2**20), (10**30,)])
def test_an_array_that_declares_more_than_it_holds_is_refused(saved: Path, shape: tuple[int, ...]) -> None:
    rewritten(saved, "scores", lambda data: header_of(shape, "<f4") + bytes(8))
    with pytest.raises(InputError, match=r"a\.npz' is refused before it is read"):
        Explanation.load(saved)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "1" * 10_000, '{"format": "saywhy-explanation/1"}', "null", '"\\ud800"']
)
def test_a_record_that_is_none_is_refused(saved: Path, text: str) -> None:
    rewritten(saved, "saywhy", as_array(text))
    with pytest.raises(InputError, match=r"a\.npz'"):
        Explanation.load(saved)


def test_a_flipped_bit_of_a_saved_explanation_is_refused_or_harmless(saved: Path) -> None:
    whole, sound, refused = Explanation.load(saved), saved.read_bytes(), []
    for place in Random(0).sample(range(8 * len(sound)), 200):
        damaged = bytearray(sound)
        damaged[place // 8] ^= 1 << place % 8
        saved.write_bytes(damaged)
        try:
            assert Explanation.load(saved) == whole
        except InputError as error:
            refused.append(str(error))
    assert len(refused) > 150
    assert all("a.npz" in why for why in refused)


def replaced(record: Any, random: Random) -> Any:
    """A copy of JSON data in which one value, at any depth, is another."""
    strange = (None, True, -1, 10**400, 1e308, "", "x", [], [[]], {}, [None], "float16", "load", {"a": 1}, "\ud800")
    if isinstance(record, dict) and record and random.random() < 0.9:
        key = random.choice(list(record))
        return {**record, key: replaced(record[key], random)}
    if isinstance(record, list) and record and random.random() < 0.9:
        at = random.randrange(len(record))
        return [*record[:at], replaced(record[at], random), *record[at + 1 :]]
    return random.choice(strange)


def test_any_changed_value_of_a_record_is_refused_or_usable(saved: Path) -> None:
    sound, random = json.loads(json.dumps(Explanation.load(saved).to_dict())), Random(1)
    for _ in range(300):
        changed = replaced(sound, random)
        try:
            e = Explanation.from_dict(changed)
            assert repr(e)
            assert e.heatmap().shape[:2] == (1, 2)
        except InputError:
            continue
        assert e.peak(0, 1) is None or len(e.peak(0, 1)) == 2  # type: ignore[arg-type]


def test_from_dict_of_a_non_finite_map_is_kept(saved: Path) -> None:
    e = Explanation.load(saved)
    values = {pair: torch.full_like(maps, torch.nan) for pair, maps in e.values.items()}
    assert Explanation.from_dict(e.with_maps(values).to_dict()).maps.isnan().all()


@pytest.mark.parametrize("read", [read_json, lambda path: contents(path, "a table")])
def test_a_text_file_above_the_limit_is_refused(tmp_path: Path, monkeypatch: Any, read: Callable[..., Any]) -> None:
    (tmp_path / "a.json").write_text(json.dumps([0] * 100))
    read(tmp_path / "a.json")
    monkeypatch.setenv("SAYWHY_MAX_BYTES", "50")
    with pytest.raises(InputError, match=r"has 300 bytes, more than 200\. If you trust it, set .* to 75"):
        read(tmp_path / "a.json")


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 10_000, "\ufeff[", "{", "\x00"])
def test_json_that_cannot_be_parsed_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(SaywhyError, match=r"a\.json' is no JSON"):
        read_json(tmp_path / "a.json")
