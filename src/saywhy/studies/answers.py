"""``AnswerStore``: raters and their answers, in a file of SQLite that survives a kill."""

import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from saywhy.errors import InputError
from saywhy.studies.assignment import Shown, assign
from saywhy.studies.study import Study

FILE = "answers.sqlite"

PERSON = "person"

IDLE = 3600.0
"""Seconds after which the place of a rater who has answered nothing is given to another."""

TABLES = """
CREATE TABLE IF NOT EXISTS raters (
  key TEXT PRIMARY KEY, place INTEGER NOT NULL UNIQUE, kind TEXT NOT NULL, begun REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS answers (
  rater TEXT NOT NULL REFERENCES raters(key) ON DELETE CASCADE, item TEXT NOT NULL, value INTEGER NOT NULL,
  swapped INTEGER NOT NULL, milliseconds INTEGER NOT NULL, at REAL NOT NULL, PRIMARY KEY (rater, item)
);
"""


class StudyFull(InputError):
    """All places of a study are taken."""


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        rater: the number of the rater's place.
        kind: "person", or "simulated: …".
        item: the key of the item or attention check.
        value: the index of the class, or the points for the better model; for an attention check likewise.
        swapped: whether both sides had changed places.
        milliseconds: from the moment when the item was shown.
    """

    rater: int
    kind: str
    item: str
    value: int
    swapped: bool
    milliseconds: int


class AnswerStore:
    """The raters and answers of a study. Every answer is on the disk when :meth:`add` returns.

    It can be used by several threads and processes.

    Args:
        study: its folder has the file.
    """

    def __init__(self, study: Study) -> None:
        self.study, self._path = study, study.folder / FILE
        self._blocks = assign(study)
        with self._open() as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.executescript(TABLES)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(self._path, timeout=30, isolation_level=None)
        try:
            database.execute("PRAGMA synchronous=FULL")
            database.execute("PRAGMA foreign_keys=ON")
            yield database
        except sqlite3.DatabaseError as error:
            raise InputError(f"'{self._path}' cannot be read or written: {error}.") from error
        finally:
            database.close()

    def join(self, kind: str = PERSON, now: float | None = None) -> str:
        """Give a new rater a place; return the rater's key.

        The place of one who began an hour ago and has answered nothing is free again.

        Raises:
            StudyFull: all places are taken.
        """
        now = time.time() if now is None else now
        key = secrets.token_urlsafe(16)
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                database.execute(
                    "DELETE FROM raters WHERE begun < ? AND key NOT IN (SELECT rater FROM answers)", (now - IDLE,)
                )
                taken = {place for (place,) in database.execute("SELECT place FROM raters")}
                free = next((place for place in range(len(self._blocks)) if place not in taken), None)
                if free is None:
                    raise StudyFull(f"this study has all of its {len(self._blocks)} raters. Thank you.")
                database.execute("INSERT INTO raters VALUES (?, ?, ?, ?)", (key, free, kind, now))
                database.execute("COMMIT")
            except BaseException:
                database.execute("ROLLBACK")
                raise
        return key

    def place(self, key: str) -> int | None:
        """Return the place of a rater; None if there is none of this key."""
        with self._open() as database:
            found = database.execute("SELECT place FROM raters WHERE key = ?", (key,)).fetchone()
        return None if found is None else int(found[0])

    def shown(self, key: str) -> tuple[list[Shown], int]:
        """Return what a rater sees that is not answered yet, in order, and the number of all.

        Raises:
            InputError: there is no such rater.
        """
        place = self.place(key)
        if place is None:
            raise InputError("there is no such rater in this study. Open the study's link again.")
        with self._open() as database:
            done = {item for (item,) in database.execute("SELECT item FROM answers WHERE rater = ?", (key,))}
        block = self._blocks[place]
        return [one for one in block if one.item.key not in done], len(block)

    def add(self, key: str, item: str, choice: int, milliseconds: int) -> bool:
        """Store an answer; return whether it is new: the first answer to an item counts.

        Args:
            key: of the rater.
            item: the key of the item.
            choice: as the rater saw it.
            milliseconds: from the moment when the item was shown.

        Raises:
            InputError: there is no such rater, the rater does not see this item, or it has no such answer.
        """
        place = self.place(key)
        if place is None:
            raise InputError("there is no such rater in this study. Open the study's link again.")
        shown = next((one for one in self._blocks[place] if one.item.key == item), None)
        if shown is None:
            raise InputError(f"this rater does not see the item {item!r}.")
        if choice not in self.study.allowed(shown.item):
            raise InputError(f"the answer must be one of {list(self.study.allowed(shown.item))}, got {choice}.")
        value = shown.answer(choice)
        with self._open() as database:
            done = database.execute(
                "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?)",
                (key, item, value, int(shown.swapped), max(0, milliseconds), time.time()),
            )
            return done.rowcount > 0

    def answers(self) -> list[Answer]:
        """Return all answers, by rater."""
        with self._open() as database:
            rows = database.execute(
                "SELECT place, kind, item, value, swapped, milliseconds FROM answers "
                "JOIN raters ON raters.key = answers.rater ORDER BY place, at, item"
            ).fetchall()
        return [Answer(p, kind, item, value, bool(swapped), spent) for p, kind, item, value, swapped, spent in rows]
