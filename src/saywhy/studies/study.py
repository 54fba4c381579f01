"""``Study``: its design and its items, as a folder."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from saywhy.datasets.json_records import read_json
from saywhy.errors import InputError
from saywhy.io.atomic import write_text
from saywhy.validation import short_repr, validate, whole_number

StudyKind = Literal["trust", "discrimination"]

FILE = "study.json"

FORMAT, VERSION = "saywhy-study", 1

LEAST, MOST = -2, 2
"""The five points of a trust study: from "the other model is clearly more reasonable" to "the better one is"."""


@dataclass(frozen=True)
class StudyDesign:
    """How a study is done.

    Attributes:
        kind: "trust" or "discrimination".
        models: their names; of a trust study two, the better one first.
        methods: that are compared.
        raters: their number.
        items_per_rater: the items that each rater sees, without attention checks.
        attention_checks: the number of attention checks that each rater sees.
        seed: of the assignment.

    Raises:
        InputError: a value is none of these.

    >>> StudyDesign("trust", ("a",), ("gradcam",))
    Traceback (most recent call last):
    saywhy.errors.InputError: a trust study needs two models, the better one first, got 1.
    """

    kind: StudyKind
    models: tuple[str, ...]
    methods: tuple[str, ...]
    raters: int = 20
    items_per_rater: int = 20
    attention_checks: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        validate("kind", self.kind, StudyKind)
        if self.kind == "trust" and len(self.models) != 2:
            raise InputError(f"a trust study needs two models, the better one first, got {len(self.models)}.")
        if self.kind == "discrimination" and len(self.models) != 1:
            raise InputError(f"a discrimination study needs one model, got {len(self.models)}.")
        if not self.methods or len(set(self.methods)) != len(self.methods):
            raise InputError(f"a study needs one or several methods, each once, got {short_repr(self.methods)}.")
        whole_number("raters", self.raters, 1)
        whole_number("items_per_rater", self.items_per_rater, 1)
        whole_number("attention_checks", self.attention_checks, 0)
        whole_number("seed", self.seed, 0)


@dataclass(frozen=True)
class StudyItem:
    """What a rater sees at once.

    Attributes:
        key: names it in the study.
        image: the name of the image that is explained.
        method: of the maps; "" for an attention check.
        files: in the study's folder: of a trust study the maps of both models, the better one first; else one map.
        options: of a discrimination study the two classes; of a trust study none.
        right: of a discrimination study, the index of the class that the map is of; of an attention check, the
            answer that the instruction asks for. None for items of a trust study, which have no right answer.
        predicted: of a trust study, the class that both models predict.
        instruction: of an attention check, what the rater is told to answer; "" for items.
    """

    key: str
    image: str
    method: str
    files: tuple[str, ...]
    options: tuple[str, ...] = ()
    right: int | None = None
    predicted: str = ""
    instruction: str = ""

    @property
    def is_check(self) -> bool:
        """Whether it is an attention check."""
        return bool(self.instruction)


@dataclass(frozen=True)
class Study:
    """A study.

    Attributes:
        design: how it is done.
        items: what raters see, without attention checks.
        checks: the attention checks; each rater sees as many of them as the design says.
        blocks: for each place of a rater, the keys of what is seen, in order, and whether both sides are swapped; of
            :func:`saywhy.studies.assignment.assign`. They are stored, so that they stay whatever computes them later.
        link: the random part of the address that raters open.
        folder: where it lies.
        provenance: how the maps were made.
    """

    design: StudyDesign
    items: tuple[StudyItem, ...]
    checks: tuple[StudyItem, ...]
    blocks: tuple[tuple[tuple[str, bool], ...], ...]
    link: str
    folder: Path
    provenance: dict[str, Any]

    def item(self, key: str) -> StudyItem:
        """Return an item or an attention check.

        Raises:
            InputError: there is none of this key.
        """
        for one in (*self.items, *self.checks):
            if one.key == key:
                return one
        raise InputError(f"this study has no item {short_repr(key)}.")

    def allowed(self, item: StudyItem) -> tuple[int, ...]:
        """Return the answers that an item can have: indices of its options, or the five points."""
        return tuple(range(len(item.options))) if item.options else tuple(range(LEAST, MOST + 1))


def write_study(study: Study) -> Path:
    """Write the file of a study into its folder, completely or not at all; return its path."""
    record = {
        "format": FORMAT, "version": VERSION, "link": study.link, "design": asdict(study.design),
        "items": [asdict(one) for one in study.items], "checks": [asdict(one) for one in study.checks],
        "blocks": study.blocks, "provenance": study.provenance,
    }  # fmt: skip
    path = study.folder / FILE
    write_text(path, json.dumps(record, ensure_ascii=False, indent=1, allow_nan=False) + "\n")
    return path


def read_study(folder: "Path | str") -> Study:
    """Read a study from its folder.

    Raises:
        InputError: there is no study, it has another form, or one of its files is missing or outside of the folder.
    """
    folder = Path(folder)
    path = folder / FILE
    if not path.is_file():
        raise InputError(f"there is no study in '{folder}' (no {FILE}). Make one: saywhy study make.")
    record = read_json(path)
    try:
        if record["format"] != FORMAT or record["version"] != VERSION:
            raise InputError(f"'{path}' must have the format '{FORMAT}' and the version {VERSION}.")
        design = _made(StudyDesign, record["design"])
        items, checks = (tuple(_made(StudyItem, one) for one in record[part]) for part in ("items", "checks"))
        blocks = tuple(tuple((str(key), bool(swapped)) for key, swapped in block) for block in record["blocks"])
        study = Study(design, items, checks, blocks, str(record["link"]), folder, dict(record["provenance"]))
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"'{path}' is no file of a study ({type(error).__name__}: {error}). Make it again.") from error
    _check(study, path)
    return study


def _made(kind: Any, record: Any) -> Any:
    """Return a dataclass of a record, with tuples for its lists."""
    names = {one.name for one in fields(kind)}
    if not isinstance(record, dict) or set(record) != names:
        raise InputError(f"expected an object with {', '.join(sorted(names))}, got {short_repr(record)}.")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in record.items()})


def _check(study: Study, path: Path) -> None:
    """Check what a rater's browser asks for: keys, blocks and files.

    Raises:
        InputError: a key occurs twice, an answer is none of the options, or a file is missing or outside.
    """
    every = (*study.items, *study.checks)
    if len({one.key for one in every}) != len(every):
        raise InputError(f"'{path}': the keys of its items must differ.")
    if not study.blocks or not {key for block in study.blocks for key, _ in block} <= {one.key for one in every}:
        raise InputError(f"'{path}': its blocks must have keys of its items.")
    wanted = 2 if study.design.kind == "trust" else 1
    for one in every:
        if one.right is not None and one.right not in study.allowed(one):
            raise InputError(f"'{path}': {one.key} has the right answer {one.right}, which is none of its answers.")
        if len(one.files) != wanted and not one.is_check:
            raise InputError(f"'{path}': {one.key} must have {wanted} files, got {len(one.files)}.")
        for name in one.files:
            if Path(name).name != name or not (study.folder / name).is_file():
                raise InputError(f"'{path}': {one.key} names the file {short_repr(name)}, which is not in the folder.")
