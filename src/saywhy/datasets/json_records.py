"""Records of JSON files, checked one by one; errors name the file and the record."""

import json
import os
import reprlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saywhy.errors import InputError, nearest
from saywhy.io.limits import check_text, parse_json

KINDS = {int: "a whole number", str: "a text", list: "a list", dict: "an object"}
"""The names of the JSON types in messages."""

SIGNS = {
    "answers": "VQA annotations, which saywhy.tasks.vqa.vqa_dataset.read_annotations reads",
    "question": "VQA questions, which saywhy.tasks.vqa.vqa_dataset.read_questions reads",
    "caption": "COCO captions, which saywhy.tasks.captioning.coco_captions.read_captions reads",
    "bbox": "COCO boxes; the captions are in another file of the same archive, captions_….json",
    "answer": "a model's VQA answers, which saywhy.tasks.vqa.vqa_dataset.read_results reads",
}
"""Fields that identify a kind of records, and its description."""


@dataclass(frozen=True)
class JSONRows:
    """The records of one file.

    Attributes:
        path: the file.
        name: the key of their list; a description where the file is a bare list.
        rows: as read.
        header: the other entries of the file, without its lists.
    """

    path: Path
    name: str
    rows: list[Any]
    header: dict[str, Any]

    def place(self, index: int) -> str:
        """Return the location of a record, for messages.

        >>> JSONRows(Path("q.json"), "questions", [], {}).place(7)
        "'q.json', questions[7]"
        """
        return f"'{self.path}', {self.name}[{index}]"

    def each(self, **fields: type) -> Iterator[tuple[int, dict[str, Any], list[Any]]]:
        """Yield every record: its index, the record, and the values of the required fields.

        Raises:
            InputError: a record is no object, lacks a field, or has a field of another type.

        >>> rows = JSONRows(Path("q.json"), "questions", [{"image_id": 9, "question": "why?"}], {})
        >>> next(rows.each(image_id=int, question=str))[2]
        [9, 'why?']
        """
        for index, row in enumerate(self.rows):
            if type(row) is not dict or not fields.keys() <= row.keys():
                raise InputError(f"{self.place(index)}: {_lacking(row, fields)}")
            values = [row[name] for name in fields]
            for (name, kind), value in zip(fields.items(), values, strict=True):
                if type(value) is not kind:
                    raise InputError(f"{self.place(index)}: '{name}' must be {KINDS[kind]}, got {_shown(value)}.")
            yield index, row, values

    def twice(self, index: int, name: str, value: Any) -> InputError:
        """Return the error for an id that occurs twice."""
        first = next(i for i, row in enumerate(self.rows) if row[name] == value)
        return InputError(
            f"{self.place(index)}: {name} {value} occurs before, in {self.name}[{first}]. "
            "Every record needs a unique id: was the file joined with itself?"
        )


def read_rows(
    path: "str | os.PathLike[str]", name: str, hook: "Callable[[dict[str, Any]], Any] | None" = None
) -> JSONRows:
    """Read the records of a file: a list under a key, or a bare list.

    Args:
        path: a JSON file.
        name: the key of the list.
        hook: converts every object, as ``object_hook`` of ``json.loads``.

    Raises:
        InputError: there is no such file, it is no JSON, or it holds no such records.
    """
    return rows_of(path, read_json(path, hook), name)


def rows_of(path: "str | os.PathLike[str]", data: Any, name: str) -> JSONRows:
    """Return the records in the parsed contents of a file.

    >>> rows_of("q.json", {"info": "small", "questions": [{"question_id": 1}]}, "questions").header
    {'info': 'small'}
    """
    if isinstance(data, dict) and isinstance(data.get(name), list):
        rows, header = data[name], {key: value for key, value in data.items() if not isinstance(value, list)}
    elif isinstance(data, list):
        rows, header = data, {}
    else:
        raise InputError(
            f"'{path}' must hold a list, or an object with the list '{name}', got {held(data)}.{_list_hint(data)}"
        )
    if not rows:
        raise InputError(f"'{path}' holds no {name}: the list is empty. Is it the right file?")
    return JSONRows(Path(path), name, rows, header)


def read_json(path: "str | os.PathLike[str]", hook: "Callable[[dict[str, Any]], Any] | None" = None) -> Any:
    """Return the parsed contents of a JSON file.

    Raises:
        InputError: there is no such file, or it is no JSON.
    """
    data = _read_bytes(Path(path))
    try:
        return parse_json(data, hook)
    except json.JSONDecodeError as error:
        problem = f"{error.msg} in line {error.lineno}, column {error.colno}"
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is no text"
    except ValueError as error:  # nested too deeply, or a whole number of thousands of digits
        problem = str(error).split(";")[0]
    if data[:2] == b"PK":
        raise InputError(f"'{path}' is a zip archive, not JSON. Unpack it and give the file that is in it.")
    raise InputError(f"'{path}' is no JSON: {problem}. Is the file complete?")


def some(values: Iterable[object], most: int = 3) -> str:
    """Return the first values as text, for messages.

    >>> some([7, 8, 9, 10]), some(["a"])
    ('7, 8, 9, …', 'a')
    """
    listed = list(values)
    return ", ".join(str(value) for value in listed[:most]) + (", …" if len(listed) > most else "")


def _read_bytes(path: Path) -> bytes:
    try:
        check_text(path, InputError)
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: an impossible file name
        if os.path.isdir(path):
            raise InputError(f"'{path}' is a folder, not a JSON file. Give one of its files.") from error
        if os.path.exists(path):
            raise InputError(f"'{path}' cannot be read: {getattr(error, 'strerror', error)}.") from error
        near = (
            nearest(path.name, (p.name for p in path.parent.glob("*")), count=1) if os.path.isdir(path.parent) else []
        )
        hint = f" Nearest in that folder: '{near[0]}'." if near else ""
        raise InputError(f"there is no file '{path}'.{hint}") from error


def _lacking(row: Any, fields: "dict[str, type]") -> str:
    expected = f"a record needs the fields {', '.join(fields)}"
    if type(row) is not dict:
        return f"{expected}, got {_shown(row)}."
    missing = ", ".join(f"'{name}'" for name in fields if name not in row)
    return f"{expected}; {missing} is not among {', '.join(map(str, row)) or 'none'}.{_record_hint(row, fields)}"


def _record_hint(row: Any, fields: Iterable[str] = ()) -> str:
    """Return a sentence that says what an unexpected record probably is; empty where that is unknown."""
    signs = (what for sign, what in SIGNS.items() if isinstance(row, dict) and sign in row and sign not in fields)
    return next((f" These look like {what}." for what in signs), "")


def _list_hint(data: Any) -> str:
    """Return the hint for the first recognised list of an unexpected file; empty where there is none."""
    lists = [value for value in data.values() if isinstance(value, list) and value] if isinstance(data, dict) else []
    return next((hint for rows in lists if (hint := _record_hint(rows[0]))), "")


def held(data: Any) -> str:
    """Return a short description of parsed JSON, for messages.

    >>> held({"info": {}, "licenses": []}), held(3)
    ("an object with 'info', 'licenses'", '3 (int)')
    """
    if not isinstance(data, dict):
        return _shown(data)
    return f"an object with {some((repr(key) for key in data), 8) or 'nothing in it'}"


def _shown(value: Any) -> str:
    """Return a value for a message: shortened, with its type."""
    text = reprlib.repr(value) if isinstance(value, dict | list) else repr(value)
    return f"{text if len(text) <= 60 else text[:59] + '…'} ({type(value).__name__})"
