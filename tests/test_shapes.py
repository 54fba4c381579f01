"""The shapes in the signatures are correct: the methods run under jaxtyping and beartype."""

import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped

from kinds import ONE_PASS
from saywhy.methods import Method, fuse

SPACES = ((7,), (3, 4), (2, 3, 4))


def tensors(space: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    activations = torch.rand(2, 5, *space, generator=generator)
    # The same gradient at every position: CAM asks for it, and the others do not mind.
    gradients = torch.rand(2, 5, *(1 for _ in space), generator=generator).expand_as(activations)
    return activations, gradients


@pytest.mark.parametrize("space", SPACES, ids=("signal", "image", "volume"))
@pytest.mark.parametrize("method", ONE_PASS.values(), ids=ONE_PASS)
def test_method_signatures_hold_for_signals_images_and_volumes(method: Method, space: tuple[int, ...]) -> None:
    watched = jaxtyped(method.function, typechecker=beartype)
    assert watched(*tensors(space)).shape == (2, *space)


@pytest.mark.parametrize("method", ONE_PASS.values(), ids=ONE_PASS)
def test_mismatched_gradients_raise_type_check_error(method: Method) -> None:
    watched = jaxtyped(method.function, typechecker=beartype)
    activations, gradients = tensors((3, 4))
    with pytest.raises(TypeCheckError):
        watched(activations, gradients.mT)
    with pytest.raises(TypeCheckError):
        watched(activations[:, :3], gradients)


def test_fuse_returns_the_finest_grid() -> None:
    watched = jaxtyped(fuse, typechecker=beartype)
    assert watched([torch.rand(1, 2, 3, 3), torch.rand(1, 2, 6, 6)]).shape == (1, 2, 6, 6)
