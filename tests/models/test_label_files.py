"""Names of classes in files."""

from pathlib import Path

import pytest

import saywhy
from saywhy.errors import InputError
from saywhy.models.label_files import read_labels


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "tiger cat\ndog\n\n"),
        ("a.names", "\ufefftiger cat\r\ndog"),
        ("a.json", '["tiger cat", "dog"]'),
        ("a.json", '{"0": "tiger cat", "1": "dog"}'),
        ("a.json", '{"dog": 1, "tiger cat": 0}'),
    ],
)
def test_every_form_gives_the_names_in_order(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_labels(tmp_path / name) == ("tiger cat", "dog")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", ""), ("a.txt", "cat\n\ndog"), ("a.json", "[1, 2]"), ("a.json", '{"cat": 0, "dog": 2}'),
        ("a.json", '{"cat": true, "dog": false}'), ("a.json", "{"), ("a.json", "7"), ("a.json", '{"0": 5}'),
    ],
)  # fmt: skip
def test_other_forms_are_refused_with_the_file(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=name):
        read_labels(tmp_path / name)
    with pytest.raises(InputError, match=r"missing.txt.*cannot be read"):
        saywhy.load("toybox:classifier", labels=tmp_path / "missing.txt")


@pytest.mark.parametrize("text", ["index,name\n0,cat\n1,dog\n", "0,cat\n1,dog", "0\tcat"])
def test_table_of_indices_and_names_is_refused(tmp_path, text):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(InputError, match="is a table"):
        read_labels(tmp_path / "labels.csv")


def test_commas_within_names_are_kept(tmp_path):
    (tmp_path / "labels.txt").write_text("tench, Tinca tinca\ngoldfish")
    assert read_labels(tmp_path / "labels.txt") == ("tench, Tinca tinca", "goldfish")
