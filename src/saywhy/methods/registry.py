"""The methods by name: what the command line, the documentation and the tests read."""

from functools import cache
from importlib.metadata import entry_points

from saywhy.errors import MethodError, nearest
from saywhy.methods.catalogue import ELSEWHERE, METHODS
from saywhy.methods.method import Method
from saywhy.methods.smooth import smoothed


def register(method: Method) -> None:
    """Add a method of your own; it is then a choice everywhere: in Python, on the command line, in the viewer.

    Raises:
        MethodError: the name is taken.
    """
    if METHODS.get(method.name, method) is not method:
        raise MethodError(f"there is a method '{method.name}' already. Choose another name.")
    METHODS[method.name] = method


def all_methods() -> tuple[Method, ...]:
    """Ours, those registered, and those of installed packages (entry points of the group ``saywhy.methods``).

    Raises:
        MethodError: a package's method cannot be loaded.
    """
    for entry in entry_points(group="saywhy.methods"):
        try:
            method = entry.load()
        except Exception as error:
            raise MethodError(
                f"the method '{entry.name}' of another package ({entry.value}) cannot be loaded: {error}. "
                "Mend or remove that package."
            ) from error
        register(method)
    return tuple(METHODS.values())


def find_method(name: str) -> Method:
    """The method of this name; entry points of other packages are looked at when the name is not ours.

    ``smooth-`` before the name of a method of one pass is that method, averaged over noisy copies of the image.

    Raises:
        MethodError: there is no such method.

    >>> find_method("gradcam").paper
    'Selvaraju et al., 2017'
    """
    if name not in METHODS and name.startswith("smooth-"):
        return _smoothed(name.removeprefix("smooth-"))
    if name not in METHODS:
        all_methods()
    if name not in METHODS and name in ELSEWHERE:
        raise MethodError(f"'{name}' is no method of its own: {ELSEWHERE[name]}.")
    if name not in METHODS:
        likely = ", ".join(repr(n) for n in nearest(name, [*METHODS, *ELSEWHERE]))
        raise MethodError(
            f"no method '{name}'. {f'Nearest: {likely}. ' if likely else ''}`saywhy methods` lists them all."
        )
    return METHODS[name]


@cache
def _smoothed(name: str) -> Method:
    """A method of one pass over noisy copies of the image; not in the list, which would be twice as long."""
    inner = find_method(name)
    if inner.passes != "one":
        raise MethodError(f"'{name}' makes several passes of its own; only methods of one pass can be smoothed.")
    return smoothed(inner)
