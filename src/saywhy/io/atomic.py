"""Atomic writes: a file is written completely or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; the file written there replaces ``path`` at the end.

    If the body raises, an interrupt included, the temporary file is removed and ``path`` stays as it was. A missing
    folder is created.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with atomic_write(f"{folder}/a.txt") as temporary:
    ...         _ = temporary.write_text("why")
    ...     Path(folder, "a.txt").read_text()
    'why'
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # The suffix is kept, because Pillow and others read the format from it.
    temporary = target.with_name(f".{token_hex(6)}.part{target.suffix}")
    try:
        yield temporary
        # A rename may reach the disk before the contents: after a power failure the file would be empty.
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
