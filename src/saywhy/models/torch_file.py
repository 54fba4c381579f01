"""Checks of a file that torch saved, before torch reads it: declared sizes, checksums and nesting."""

import pickletools
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from saywhy.errors import WeightsError
from saywhy.io.limits import check_zip

_OPCODES = 1_000_000
"""Instructions of a pickle; a state dict has about 30 for each tensor."""

_NESTED = 16
"""Levels of tuples within tuples. The hash of 30 levels, each of the same tuple twice, takes minutes."""

_OLD_PARTS = 5
"""Pickles at the start of a file in torch's format before 1.6: number, version, system, objects, storages."""

_CHUNK = 1 << 20


def check_torch_file(file: Path) -> None:
    """Check that a file can be read in bounded time and memory, and that its bytes are those that were written.

    Files of other formats pass; torch refuses them.

    Raises:
        WeightsError: it unpacks to more than the limit, its pickle has too many instructions or levels, or it is
            damaged.
    """
    with file.open("rb") as opened:
        if zipfile.is_zipfile(opened):
            try:
                with zipfile.ZipFile(opened) as archive:
                    check_zip(file, archive, WeightsError)
                    for entry in archive.infolist():
                        if entry.filename.endswith(".pkl"):
                            _check_pickle(file, _opened(archive, entry))
                    _check_sums(file, archive)
            except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:
                raise WeightsError(f"'{file}' is damaged: {error}. Download or save it once more.") from error
        else:
            opened.seek(0)
            for _ in range(_OLD_PARTS):
                if not _check_pickle(file, opened):
                    break


def _check_sums(file: Path, archive: zipfile.ZipFile) -> None:
    """Check the checksum of each entry; a file that was saved without any (``compute_crc32=False``) passes."""
    entries = [entry for entry in archive.infolist() if entry.file_size]
    wrong = []
    for entry in entries:
        found = 0
        with _opened(archive, entry) as part:
            while chunk := part.read(_CHUNK):
                found = zlib.crc32(chunk, found)
        if found != entry.CRC:
            wrong.append(entry.filename)
    if wrong and len(wrong) < len(entries):
        raise WeightsError(
            f"'{file}' is damaged: the contents of '{wrong[0]}' do not have the checksum that was written with them. "
            "Download or save it once more."
        )


def _opened(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Any:
    """Open an entry without a check of its checksum, which files without one would not pass."""
    part = archive.open(entry)
    part._expected_crc = None  # type: ignore[attr-defined]
    return part


def _check_pickle(file: Path, part: BinaryIO) -> bool:
    """Follow the instructions of a pickle without executing them; return whether it is one."""
    stack: list[int | None] = []  # how deep each value nests tuples; None is a mark
    memo: dict[Any, int] = {}
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(part)):
            if count >= _OPCODES:
                raise WeightsError(f"'{file}' is refused: its pickle has more than {_OPCODES:,} instructions.")
            deepest = _step(opcode, argument, stack, memo)
            if deepest > _NESTED:
                raise WeightsError(f"'{file}' is refused: its pickle nests tuples more than {_NESTED} levels deep.")
    except (ValueError, IndexError, KeyError, TypeError, EOFError, OverflowError, AttributeError):
        return False
    return True


def _step(opcode: Any, argument: Any, stack: "list[int | None]", memo: dict[Any, int]) -> int:
    """Follow one instruction; return the levels of tuples of the value that it pushes."""
    name = opcode.name
    if name == "MARK":
        stack.append(None)
        return 0
    if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
        memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1] or 0
        return 0
    if name in ("GET", "BINGET", "LONG_BINGET"):
        stack.append(memo[argument])
        return 0
    if name == "DUP":
        stack.append(stack[-1])
        return 0
    inner: list[int] = []
    if pickletools.markobject in opcode.stack_before:
        while (value := stack.pop()) is not None:
            inner.append(value)
        for _ in range(opcode.stack_before.index(pickletools.markobject)):
            stack.pop()
    else:
        for _ in opcode.stack_before:
            inner.append(stack.pop() or 0)
    depth = 1 + max(inner, default=0) if "TUPLE" in name and inner else 0
    stack.extend([depth] * len(opcode.stack_after))
    return depth
