"""Text of models, data and files, made safe for a terminal."""

import json
import re
from typing import Any

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
"""Control codes of C0 and C1 except tab and line feed, invisible and bidirectional characters, lone surrogates."""


def printable(text: object, one_line: bool = False) -> str:
    r"""Return a text in which control codes, invisible characters and lone surrogates are written as escapes.

    A terminal executes the control codes of a label or a file name: ESC sequences move the cursor, and OSC sequences
    set the clipboard.

    Args:
        text: of a model, a data set or a file.
        one_line: whether tabs and line feeds are escaped, too.

    >>> print(printable("\x1b[31mcat\x07"), printable("two\nlines", one_line=True))
    \x1b[31mcat\x07 two\nlines
    """
    safe = _UNSAFE.sub(_escaped, str(text))
    return safe.replace("\n", "\\n").replace("\t", "\\t") if one_line else safe


def printable_json(record: Any, indent: int | None = 1) -> str:
    r"""Return JSON with the letters of all scripts, and with escapes for what a terminal would execute.

    >>> printable_json({"label": "Σ\x9b"}, indent=None)
    '{"label": "Σ\\u009b"}'
    """
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(record, indent=indent, ensure_ascii=False))


def _escaped(found: "re.Match[str]") -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
