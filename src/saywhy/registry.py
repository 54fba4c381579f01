"""The registry class for methods, metrics, targets, model sources, data sets and tasks.

A decorator registers a function with its description. The command line, the documentation and the contract tests read
only the registry. Other packages use the same decorators, and name the module in an entry point of the registry's
group::

    [project.entry-points."saywhy.methods"]
    brightness = "their_package:brightness"

Built-in names are found in their folder and in a table of modules, not by entry points. Entry points are written at
installation: a checkout that is newer than its installation, or on the path without one, would not find its own default
model. Reading them also takes time, so they are read only for a name that is not built in, and to list all names.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import Any, Generic, TypeVar

from saywhy.errors import SaywhyError, SaywhyWarning, first_line, nearest

T = TypeVar("T")
"""The type of a registry's values: they have a ``name``, and a ``function`` that may be imported on first use."""


class Registry(MutableMapping[str, T], Generic[T]):
    """Values by name, in the order in which they are listed.

    As a mapping it contains built-in and registered values; :meth:`find` and :meth:`load_entry_points` also load the
    values of other packages.

    Args:
        kind: the kind of the values, for messages: ``"method"``.
        group: the group of entry points: ``"saywhy.methods"``.
        error: the class of errors about names.
        command: the command that lists the names: ``"saywhy methods"``.
        of: the class of the values.
        modules: built-in names that are imported on first use, with the module that registers each.
        folder: a package whose modules may register further built-in names; it is imported before other packages.
        elsewhere: names that are no values, and what to use instead.

    >>> from saywhy.methods.method import Method
    >>> from saywhy.errors import MethodError
    >>> known = Registry("method", "saywhy.methods", MethodError, "saywhy methods", of=Method)
    >>> known.register(Method("sum", sum, "Sum", "nobody, 2020", "Σₖ Aₖ"))
    >>> known.find("sum").title, list(known)
    ('Sum', ['sum'])
    """

    def __init__(
        self,
        kind: str,
        group: str,
        error: type[SaywhyError],
        command: str,
        *,
        of: type[T],
        modules: Mapping[str, str] | None = None,
        folder: str = "",
        elsewhere: Mapping[str, str] | None = None,
    ) -> None:
        self.kind, self.group, self.command = kind, group, command
        self._error, self._type = error, of
        self._modules, self._elsewhere = dict(modules or {}), dict(elsewhere or {})
        self._folder = folder
        self._values: dict[str, T | None] = dict.fromkeys(self._modules)

    def register(self, value: T) -> None:
        """Add a value under its name.

        Raises:
            SaywhyError: of the registry's kind: another value has the name.
        """
        name = _name(value)
        old = self._values.get(name)
        if old is not None and old is not value and not _is_redefinition(old, value):
            raise self._error(f"there is a {self.kind} '{name}' already. Choose another name.")
        self._values[name] = value

    def find(self, name: str) -> T:
        """Return the value of this name; other names than the built-in ones are looked up in the entry points.

        Case, hyphens, underscores and spaces do not matter where only one name is left: "Grad-CAM" is "gradcam".

        Raises:
            SaywhyError: of the registry's kind: there is no such name, or the package that has it is broken.
        """
        found = self.lookup(name)
        if found is None:
            spelled = [known for known in self if _key(known) == _key(name) != ""]
            found = self[spelled[0]] if len(spelled) == 1 else None
        if found is not None:
            return found
        if name in self._elsewhere:
            raise self._error(f"'{name}' is no {self.kind} of its own: {self._elsewhere[name]}.")
        known = dict.fromkeys([*self, *(entry.name for entry in entry_points(group=self.group)), *self._elsewhere])
        likely = ", ".join(repr(each) for each in nearest(name, known))
        raise self._error(
            f"no {self.kind} '{name}'. {f'Nearest: {likely}. ' if likely else ''}`{self.command}` lists them all."
        )

    def lookup(self, name: str) -> T | None:
        """Return the value of this name as :meth:`find` does, or None if there is no such name.

        Raises:
            SaywhyError: of the registry's kind: the package that has the name is broken.
        """
        if name not in self._values:
            self._look_through_folder()
        if name not in self._values:
            for entry in entry_points(group=self.group, name=name):
                self._load(entry)
                break
        return self[name] if name in self._values else None

    def load_entry_points(self) -> None:
        """Register the values of every installed package. A warning names a package that is broken."""
        self._look_through_folder()
        for entry in entry_points(group=self.group):
            try:
                self._load(entry)
            except SaywhyError as error:
                warnings.warn(str(error), SaywhyWarning, stacklevel=2)

    def all(self) -> tuple[T, ...]:
        """Return every value: built-in, registered, and of installed packages."""
        self.load_entry_points()
        return tuple(self.values())

    def sort(self, key: Callable[[T], Any]) -> None:
        """Sort the values registered so far; values registered later come behind them."""
        self._values = {_name(value): value for value in sorted(self.values(), key=key)}

    def _look_through_folder(self) -> None:
        """Import the modules of the folder once, so that they register their values."""
        folder = self._folder
        for found in sorted(each.name for each in iter_modules(import_module(folder).__path__)) if folder else ():
            import_module(f"{folder}.{found}")
        self._folder = ""  # only now: another thread, or the next call after an interrupt, looks through it too

    def _load(self, entry: Any) -> None:
        """Import an entry point: a value, or a module that registers the name by a decorator."""
        theirs = f"the {self.kind} '{entry.name}' of another package ({entry.value})"
        try:
            found = entry.load()
            if isinstance(found, self._type):
                self.register(found)
        except Exception as error:  # an error in another package must not affect built-in names
            raise self._error(
                f"{theirs} cannot be loaded: {first_line(error)}. Repair or remove that package."
            ) from error
        if entry.name not in self._values:
            raise self._error(f"{theirs} registers nothing of that name. Repair or remove that package.")

    def __getitem__(self, name: str) -> T:
        value = self._values[name]
        if value is None:
            import_module(self._modules[name])  # which registers it
            value = self._values[name]
        if value is None:
            raise RuntimeError(f"{self._modules[name]} does not register the {self.kind} '{name}'")
        return value

    def __setitem__(self, name: str, value: T) -> None:
        self._values[name] = value

    def __delitem__(self, name: str) -> None:
        del self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def _key(name: str) -> str:
    """A name without case, hyphens, underscores and spaces.

    >>> _key("Grad-CAM++"), _key("integrated_gradients")
    ('gradcam++', 'integratedgradients')
    """
    return "".join(letter for letter in name.lower() if letter not in "-_ ")


def _name(value: Any) -> str:
    return value.name


def _is_redefinition(old: Any, new: Any) -> bool:
    """Return whether a function was defined again in ``__main__``, as by a notebook cell that is run again."""
    before, after = old.function, new.function
    return (
        after is not before
        and getattr(after, "__module__", "") == getattr(before, "__module__", "") == "__main__"
        and getattr(after, "__qualname__", "") == getattr(before, "__qualname__", None)
    )
