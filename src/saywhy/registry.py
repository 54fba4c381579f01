"""One registry for everything that has a name: methods, metrics, targets, model sources, data sets and tasks.

A name is registered where its function stands, by a decorator that carries what is said of it. The command line, the
documentation and the contract tests read the registry and nothing else. Other packages register theirs with the same
decorators, and name the module in an entry point of the registry's group::

    [project.entry-points."saywhy.methods"]
    brightness = "their_package:brightness"

Names of our own are found in their folder and in a plain table of modules, not by entry points. Entry points are
written when a package is installed: a checkout that is newer than its installation, or is on the path without one,
would not find its own default model. To read them takes time, too, so they are looked up only for a name that is not
ours, and where all names are listed.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import Any, Generic, TypeVar

from saywhy.errors import SaywhyError, SaywhyWarning, first_line, nearest

T = TypeVar("T")
"""What a registry holds: it has a ``name``, and a ``function``, which may be imported when it is asked for."""


class Registry(MutableMapping[str, T], Generic[T]):
    """Values by name, in the order in which they are shown.

    As a mapping it knows what is ours and what has been registered; :meth:`find` and :meth:`load_entry_points` also
    know what other packages bring.

    Args:
        kind: what the values are, for messages: ``"method"``.
        group: of entry points: ``"saywhy.methods"``.
        error: the kind of error for an unknown name.
        command: lists the names: ``"saywhy methods"``.
        of: the class of the values.
        modules: names of our own that are imported when they are asked for: which module registers each.
        folder: a package whose other modules may register names of our own; it is looked through before other packages.
        elsewhere: names that are no values, and what to do instead.

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
            SaywhyError: of the registry's kind: the name is taken by another one.
        """
        name = _name(value)
        old = self._values.get(name)
        if old is not None and old is not value and not _run_again(old, value):
            raise self._error(f"there is a {self.kind} '{name}' already. Choose another name.")
        self._values[name] = value

    def find(self, name: str) -> T:
        """The value of this name; the entry points of other packages are looked at when the name is not ours.

        Raises:
            SaywhyError: of the registry's kind: there is no such name, or the package that has it is broken.
        """
        found = self.lookup(name)
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
        """As :meth:`find`, and None where there is no such name.

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
        """Register what every installed package brings. A package that is broken is named in a warning."""
        self._look_through_folder()
        for entry in entry_points(group=self.group):
            try:
                self._load(entry)
            except SaywhyError as error:
                warnings.warn(str(error), SaywhyWarning, stacklevel=2)

    def all(self) -> tuple[T, ...]:
        """Every value: ours, those registered, and those of installed packages."""
        self.load_entry_points()
        return tuple(self.values())

    def sort(self, key: Callable[[T], Any]) -> None:
        """Bring what is registered now into an order; what is registered later comes behind it."""
        self._values = {_name(value): value for value in sorted(self.values(), key=key)}

    def _look_through_folder(self) -> None:
        """Import the modules of the folder, once; those that have something to register do so."""
        folder, self._folder = self._folder, ""
        for found in sorted(each.name for each in iter_modules(import_module(folder).__path__)) if folder else ():
            import_module(f"{folder}.{found}")

    def _load(self, entry: Any) -> None:
        """Import an entry point; its module registers the name by a decorator, or it is a value itself."""
        theirs = f"the {self.kind} '{entry.name}' of another package ({entry.value})"
        try:
            found = entry.load()
            if isinstance(found, self._type):
                self.register(found)
        except Exception as error:  # whatever a stranger's module raises must not stop our own names
            raise self._error(
                f"{theirs} cannot be loaded: {first_line(error)}. Mend or remove that package."
            ) from error
        if entry.name not in self._values:
            raise self._error(f"{theirs} registers nothing of that name. Mend or remove that package.")

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


def _name(value: Any) -> str:
    return value.name


def _run_again(old: Any, new: Any) -> bool:
    """Whether a cell of a notebook has been run once more, so that the same function is there anew."""
    before, after = old.function, new.function
    return (
        after is not before
        and getattr(after, "__module__", "") == getattr(before, "__module__", "") == "__main__"
        and getattr(after, "__qualname__", "") == getattr(before, "__qualname__", None)
    )
