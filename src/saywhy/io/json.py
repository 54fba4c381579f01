"""Explanations as plain data for JSON: tensors and pixels as base64, bit-exact."""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

import numpy as np

from saywhy.errors import InputError
from saywhy.explanation import Explanation
from saywhy.io.state import from_state, to_state


def to_dict(explanation: Explanation) -> dict[str, Any]:
    """The record of an explanation, with its arrays as base64 of their bytes, row by row."""
    record, arrays = to_state(explanation)
    encoded = {
        name: {
            "dtype": array.dtype.str,
            "shape": list(array.shape),
            "data": b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii"),
        }
        for name, array in arrays.items()
    }
    return {**record, "arrays": encoded}


def from_dict(record: Mapping[str, Any]) -> Explanation:
    """The explanation in a record of :func:`to_dict`.

    Raises:
        InputError: it is not such a record, or of another version of the format.
    """
    try:
        arrays = {
            name: np.frombuffer(b64decode(one["data"]), dtype=np.dtype(one["dtype"])).reshape(one["shape"])
            for name, one in record.get("arrays", {}).items()
        }
        return from_state(record, arrays)
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        MemoryError,
        RuntimeError,
        IndexError,
        SyntaxError,
    ) as error:
        raise InputError(f"expected an explanation made by to_dict, got {type(error).__name__}: {error}") from error
