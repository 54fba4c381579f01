"""A lock on an output, so that two processes do not write the same files."""

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from saywhy.errors import WriteError
from saywhy.io.atomic import writing


@contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Hold the lock of an output during this block: the file ``.NAME.lock`` in its folder.

    The operating system releases the lock of a killed process, so that a left-over lock file locks nothing.

    Args:
        path: the output file; a missing folder is created.

    Raises:
        WriteError: another process, or another thread of this one, holds the lock; or the folder cannot be written.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder, locked(f"{folder}/rows.jsonl"), locked(f"{folder}/rows.jsonl"):
    ...     pass
    Traceback (most recent call last):
    saywhy.errors.WriteError: another run (process ...) is writing '.../rows.jsonl'. Wait for it, or give ...
    """
    target = Path(path)
    file = target.with_name(f".{target.name}.lock")
    with writing(target):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = _acquire(file, target)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            file.unlink()
        os.close(handle)


def _acquire(file: Path, target: Path) -> int:
    """Open and lock a file; the handle holds the lock."""
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        if not _lock(handle):
            owner = os.read(handle, 20).decode("ascii", "replace")
            os.close(handle)
            raise WriteError(
                f"another run (process {owner or 'unknown'}) is writing '{target}'. Wait for it, or give another file."
            )
        with contextlib.suppress(OSError):
            if os.fstat(handle).st_ino == os.stat(file).st_ino:  # the last owner did not remove it in between
                os.truncate(handle, 0)
                os.write(handle, str(os.getpid()).encode())
                return handle
        os.close(handle)


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> bool:
        """Lock an open file without waiting; return whether that was possible."""
        try:
            os.lseek(handle, 64, os.SEEK_SET)  # beyond the number of the process, which others read
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        os.lseek(handle, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def _lock(handle: int) -> bool:
        """Lock an open file without waiting; return whether that was possible."""
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True  # a file system without locks
        return True
