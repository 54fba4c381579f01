"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A temporary name in the same folder, which takes the place of ``path`` in the end, or goes if it fails.

    The folder is made where it is missing.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with atomic_write(f"{folder}/a.txt") as temporary:
    ...         _ = temporary.write_text("why")
    ...     Path(folder, "a.txt").read_text()
    'why'
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # The ending is kept, because Pillow and others read the format from it.
    temporary = target.with_name(f".{token_hex(6)}.part{target.suffix}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
