"""Lazy import of the libraries that only training needs."""

from importlib import import_module
from types import ModuleType

from saywhy.errors import MissingExtra


def training_library(name: str) -> ModuleType:
    """Import and return the module ``name``, which belongs to the extra ``train``.

    >>> training_library("no_such_library")
    Traceback (most recent call last):
    saywhy.errors.MissingExtra: training needs no_such_library, which is not installed. Run: pip install 'saywhy[train]'
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] != name.split(".")[0]:
            raise  # the library is installed, but a dependency of it is missing
        message = f"training needs {name}, which is not installed. Run: pip install 'saywhy[train]'"
        raise MissingExtra(message) from None
