"""A folder of results: a file for each image, ``results.jsonl``, and the contact sheet ``index.html``."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from saywhy.cli import screen
from saywhy.errors import InputError
from saywhy.io.atomic import append, write_text, writing
from saywhy.view.contact import contact_html, thumbnail

ROWS = "results.jsonl"
INDEX = "index.html"
OWN = ("source", "file", "key", "thumbnail")
"""What a row has beside the record of the image."""


class ResultsFolder:
    """The folder of a run over many images. What is finished stays, and a second run goes on with the rest.

    Args:
        path: the folder.
        sources: all images of the run.
        settings: what changes the results; results of other settings are computed again.
        look: how maps are drawn.
    """

    def __init__(
        self, path: Path, sources: Sequence[Path], settings: Any, look: Mapping[str, Any] | None = None
    ) -> None:
        self.path = path
        self._look = look or {}
        self._settings = sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]
        self._sources = list(dict.fromkeys(sources))
        self._rows = {row["source"]: row for row in self._stored()}
        self._names = self._choose_names(sources)

    def done(self, source: Path) -> bool:
        """Return whether the result of an image is there: of the same settings and the same contents of the file."""
        row = self._rows.get(str(source))
        return row is not None and row["key"] == self._key(source) and (self.path / row["file"]).is_file()

    def record(self, source: Path) -> dict[str, Any]:
        """Return the stored record of an image."""
        return {name: value for name, value in self._rows[str(source)].items() if name not in OWN}

    def add(self, source: Path, shown: Any, record: dict[str, Any]) -> Path:
        """Write the row of an image, then its file, without which the row does not count; return the file's path."""
        file = self.path / self._names[source]
        with writing(file):
            self.path.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True)
        row = {
            "source": str(source),
            "file": file.name,
            "key": self._key(source),
            "thumbnail": thumbnail(shown),
            **record,
        }
        append(self.path / ROWS, json.dumps(row, ensure_ascii=True) + "\n")
        self._rows[str(source)] = row
        shown.save(file, **self._look)
        return file

    def write_index(self, title: str, failed: Sequence[str] = ()) -> Path:
        """Write the contact sheet of the images of this run that are finished, and messages of those that failed."""
        rows = [self._rows[str(source)] for source in self._sources if self.done(source)]
        write_text(self.path / INDEX, contact_html(rows, title, failed))
        return self.path / INDEX

    def _stored(self) -> list[dict[str, Any]]:
        """Return the rows of earlier runs; a last line that a killed run left incomplete is ended, and left out."""
        file = self.path / ROWS
        if not file.is_file():
            return []
        rows, text = [], file.read_text(encoding="utf-8")
        if text and not text.endswith("\n"):
            append(file, "\n")
        for number, line in enumerate(text.splitlines(), 1):
            try:
                row = json.loads(line)
                rows.append(
                    {**row, "source": str(row["source"]), "file": Path(row["file"]).name, "key": str(row["key"])}
                )
            except (ValueError, KeyError, TypeError):
                screen.note(f"'{file}': line {number} is no result of saywhy and is left out")
        return rows

    def _key(self, source: Path) -> str:
        return f"{self._settings} {stamp(source)}"

    def _choose_names(self, sources: Sequence[Path]) -> dict[Path, str]:
        """Return a file name for each image; equal names get numbers, and no file of another origin is overwritten."""
        own = {row["file"] for row in self._rows.values()}
        others = {p.name for p in self.path.iterdir()} - own if self.path.is_dir() else set()
        taken, names = own | others, {}
        for source in dict.fromkeys(sources):
            row = self._rows.get(str(source))
            name, count = f"{source.stem}.png", 2
            while row is None and name in taken:
                name, count = f"{source.stem}-{count}.png", count + 1
            names[source] = row["file"] if row else name
            taken.add(names[source])
        return names


def shown_names(files: Sequence[Path]) -> dict[Path, str]:
    """Return the name of each file, with as many of its folders as tell it from the others.

    >>> list(shown_names([Path("a/1.png"), Path("b/1.png"), Path("b/2.png")]).values())
    ['a/1.png', 'b/1.png', '2.png']
    """
    names = {file: file.name for file in files}
    for count in range(2, max((len(file.parts) for file in files), default=0) + 1):
        same = {name for name, times in Counter(names.values()).items() if times > 1}
        names |= {file: Path(*file.parts[-count:]).as_posix() for file, name in names.items() if name in same}
    return names


def stamp(path: str | Path | None) -> str:
    """Return size and time of a file, which change with its contents; an empty text if there is no such file.

    >>> stamp("no such file"), stamp(None)
    ('', '')
    """
    if not path or not Path(path).is_file():
        return ""
    about = Path(path).stat()
    return f"{about.st_size} {about.st_mtime_ns}"


def folder_of(path: Path) -> bool:
    """Return whether an output is a folder: it exists as one, or has no suffix.

    >>> folder_of(Path("out/maps")), folder_of(Path("why.html"))
    (True, False)
    """
    return path.is_dir() or not path.suffix


def check_outputs(paths: Sequence[Path], count: int) -> None:
    """Check the paths of ``-o`` before anything is computed.

    Raises:
        InputError: a suffix is of no format, or several images do not fit into one file.
    """
    from saywhy.explanation.files import FORMATS

    for path in paths:
        suffix = path.suffix.lower()
        if folder_of(path) or suffix == ".html":
            continue
        if suffix not in FORMATS:
            raise InputError(f"'{path}': expected {', '.join(FORMATS)} or a folder, got '{path.suffix}'.")
        if count > 1:
            raise InputError(
                f"{count} explanations do not fit into one {suffix} file. Give a folder (a .png each) or FILE.html."
            )
