"""Writing files: a file is written completely or not at all, and a line is appended durably."""

import contextlib
import errno
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from secrets import token_hex

from saywhy.errors import WriteError

_HOST = sha256(platform.node().encode()).hexdigest()[:8]
_TEMPORARY = re.compile(rf"\.saywhy-{_HOST}-(\d+)-[0-9a-f]{{8}}\.part(\..*)?")
"""The names of temporary files of this machine, with the number of their process."""


@contextmanager
def atomic_write(path: str | Path, old: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; the file written there replaces ``path`` at the end.

    If the body raises, an interrupt included, the temporary file is removed and ``path`` stays as it was. A missing
    folder is created. Temporary files that killed processes left in the folder are removed.

    Args:
        path: the file.
        old: the name under which the file before is kept; None keeps none.

    Raises:
        WriteError: the disk is full, or the folder cannot be written.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with atomic_write(f"{folder}/a.txt") as temporary:
    ...         _ = temporary.write_text("why")
    ...     Path(folder, "a.txt").read_text()
    'why'
    """
    target = Path(path)
    # The suffix is kept, because Pillow and others read the format from it.
    temporary = target.with_name(f".saywhy-{_HOST}-{os.getpid()}-{token_hex(4)}.part{target.suffix}")
    with writing(target):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _sweep(target.parent)
            yield temporary
            # A rename may reach the disk before the contents: after a power failure the file would be empty.
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            if old is not None and target.exists():
                os.replace(target, old)
            os.replace(temporary, target)
            _sync_folder(target.parent)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text in UTF-8 by :func:`atomic_write`; lone surrogates, which UTF-8 lacks, become escapes.

    Raises:
        WriteError: the disk is full, or the folder cannot be written.
    """
    with atomic_write(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


def append(path: Path, text: str) -> None:
    """Append a text to a file, completely or not at all, and wait until it is on the disk.

    Raises:
        WriteError: the disk is full, or the file cannot be written.
    """
    with writing(path), path.open("ab") as file:
        before = file.tell()
        try:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            with contextlib.suppress(OSError):
                os.truncate(path, before)
            raise


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn the errors of the operating system in this block into one sentence that names the file.

    Raises:
        WriteError: the disk is full, the folder is read-only, or ``path`` cannot be written for another reason.
    """
    try:
        yield
    except WriteError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        if isinstance(error, ValueError) and not _impossible(path):
            raise
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        cause = getattr(error, "strerror", None) or str(error)
        raise WriteError(
            f"'{path}' cannot be written: {cause}. {'Free some space, or give' if full else 'Give'} another folder."
        ) from error
    except RuntimeError as error:  # of torch.save, whose writer hides the cause
        if "PytorchStreamWriter" not in str(error) and "inline_container" not in str(error):
            raise
        raise WriteError(
            f"'{path}' cannot be written: torch could not write it all. Free some space, or give another folder."
        ) from error


def _impossible(path: str | Path) -> bool:
    """Return whether no file can have this name (a zero byte, a lone surrogate)."""
    try:
        return b"\0" in os.fsencode(path)
    except UnicodeEncodeError:
        return True


def _sweep(folder: Path) -> None:
    """Remove the temporary files of processes of this machine that are no longer running."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = _TEMPORARY.fullmatch(entry.name)
            if found and not _is_running(int(found[1])):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


def _is_running(process: int) -> bool:
    if os.name == "nt":  # there, os.kill would end the process
        return process == os.getpid()
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # of another user
    return True


def _sync_folder(folder: Path) -> None:
    """Wait until the name of a new file is on the disk; some file systems cannot do that."""
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
