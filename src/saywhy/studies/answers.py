"""``AnswerStore``: raters and their answers, in a file of SQLite that survives a kill."""

import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from saywhy.errors import InputError
from saywhy.studies.assignment import Shown, shown_to
from saywhy.studies.study import Study

FILE, SIMULATED = "answers.sqlite", "simulated.sqlite"

PERSON = "person"

IDLE = 3600.0
"""Seconds without an answer after which the place of a rater who has not finished is given to another too."""

TABLES = """
CREATE TABLE IF NOT EXISTS raters (
  number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, place INTEGER NOT NULL, kind TEXT NOT NULL, begun REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS answers (
  rater INTEGER NOT NULL REFERENCES raters(number), item TEXT NOT NULL, value INTEGER NOT NULL,
  swapped INTEGER NOT NULL, milliseconds INTEGER NOT NULL, at REAL NOT NULL, PRIMARY KEY (rater, item)
);
"""

RATERS = """
SELECT place, COUNT(item), MAX(begun, COALESCE(MAX(at), 0)) FROM raters
LEFT JOIN answers ON answers.rater = raters.number GROUP BY raters.number
"""
"""Of every rater the place, the number of answers, and the time of the last one."""


class StudyFull(InputError):
    """All places of a study are taken."""


class NoSuchRater(InputError):
    """The study has no rater of this key."""


class StoreError(InputError):
    """The file of answers cannot be read or written."""


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        rater: the number of the rater.
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
        simulated: use the file of simulated raters, who are kept apart from people.
    """

    def __init__(self, study: Study, simulated: bool = False) -> None:
        self.study, self._path = study, study.folder / (SIMULATED if simulated else FILE)
        self._blocks = [shown_to(study, place) for place in range(len(study.blocks))]
        with self._open() as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.executescript(TABLES)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            database = sqlite3.connect(self._path, timeout=30, isolation_level=None)
        except sqlite3.Error as error:
            raise StoreError(f"'{self._path}' cannot be opened: {error}.") from error
        try:
            database.execute("PRAGMA synchronous=FULL")
            yield database
        except sqlite3.Error as error:
            raise StoreError(f"'{self._path}' cannot be read or written: {error}.") from error
        finally:
            database.close()

    def join(self, kind: str = PERSON, now: float | None = None) -> str:
        """Give a new rater a place; return the rater's key.

        The place of one who has not finished, and has answered nothing for an hour, is given away too. What he or she
        has answered stays, and he or she may go on.

        Raises:
            StudyFull: all places are taken.
        """
        now = time.time() if now is None else now
        key = secrets.token_urlsafe(16)
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                free = self._free(database, now)
                if not free:
                    raise StudyFull(f"this study has all of its {len(self._blocks)} raters. Thank you.")
                row = (key, free[0], kind, now)
                database.execute("INSERT INTO raters (key, place, kind, begun) VALUES (?, ?, ?, ?)", row)
                database.execute("COMMIT")
            except BaseException:
                database.execute("ROLLBACK")
                raise
        return key

    def _free(self, database: sqlite3.Connection, now: float) -> list[int]:
        """Return the places without a rater who has finished, or is answering."""
        taken = {
            place
            for place, answers, last in database.execute(RATERS)
            if answers >= len(self._blocks[place]) or last > now - IDLE
        }
        return [place for place in range(len(self._blocks)) if place not in taken]

    def places(self) -> int:
        """Return the number of places that are free."""
        with self._open() as database:
            return len(self._free(database, time.time()))

    def shown(self, key: str) -> tuple[list[Shown], int]:
        """Return what a rater sees that is not answered yet, in order, and the number of all.

        Raises:
            NoSuchRater: there is none of this key.
        """
        number, place = self._rater(key)
        with self._open() as database:
            done = {item for (item,) in database.execute("SELECT item FROM answers WHERE rater = ?", (number,))}
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
            NoSuchRater: there is none of this key.
            InputError: the rater does not see this item, or it has no such answer.
        """
        number, place = self._rater(key)
        shown = next((one for one in self._blocks[place] if one.item.key == item), None)
        if shown is None:
            raise InputError(f"this rater does not see the item {item!r}.")
        if choice not in self.study.allowed(shown.item):
            raise InputError(f"the answer must be one of {list(self.study.allowed(shown.item))}, got {choice}.")
        row = (number, item, shown.answer(choice), int(shown.swapped), max(0, milliseconds), time.time())
        with self._open() as database:
            return database.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?)", row).rowcount > 0

    def answers(self) -> list[Answer]:
        """Return all answers, by rater, in the order in which they were given."""
        with self._open() as database:
            rows = database.execute(
                "SELECT number, kind, item, value, swapped, milliseconds FROM answers "
                "JOIN raters ON raters.number = answers.rater ORDER BY number, at, item"
            ).fetchall()
        return [Answer(n, kind, item, value, bool(swapped), spent) for n, kind, item, value, swapped, spent in rows]

    def _rater(self, key: str) -> tuple[int, int]:
        """Return the number and the place of a rater."""
        with self._open() as database:
            found = database.execute("SELECT number, place FROM raters WHERE key = ?", (key,)).fetchone()
        if found is None:
            raise NoSuchRater("there is no such rater in this study. Open the study's link again.")
        return int(found[0]), int(found[1])
