"""Our maps against those of other packages on the same network, and against the equation where a package is wrong.

Maps are compared raw, on the layer's grid, each divided by its own maximum (before anybody's resizing or min-max).
"""

import pytest
import torch
from torch import Tensor

import saywhy
from oracles.networks import TinyNetwork
from parity import peers
from parity.cases import CASES, CONVOLUTIONAL, TRANSFORMERS, Case, build, distance, equation, scaled, unit

pytestmark = pytest.mark.slow

AGREES = 1e-4
DISAGREES = 1e-2

needs_grad_cam = pytest.mark.skipif(not peers.available("pytorch_grad_cam"), reason="needs the package grad-cam")
needs_torchcam = pytest.mark.skipif(not peers.available("torchcam"), reason="needs the package torchcam")
needs_captum = pytest.mark.skipif(not peers.available("captum"), reason="needs the package captum")


@pytest.fixture(params=CASES)
def case(request) -> Case:
    if "timm" in request.param:
        pytest.importorskip("timm", reason="needs the package timm")
    return build(request.param)


def assert_alike(ours: Tensor, theirs: Tensor) -> None:
    """The same map, and one that shows something."""
    assert bool((ours.abs().flatten(1).amax(1) > 0).all())
    assert distance(ours, theirs) <= AGREES


@pytest.mark.filterwarnings("ignore:XGrad-CAM divides by the sum")  # tokens have both signs
@needs_grad_cam
@pytest.mark.parametrize("method", ["gradcam", "hirescam", "xgradcam", "layercam", "gradcam-elementwise"])
def test_map_equals_pytorch_grad_cam(case, method):
    theirs = peers.grad_cam(method, case.network, case.layer, case.inputs, list(case.classes), case.reshape)
    assert_alike(case.maps(method), theirs.relu())


@needs_grad_cam
@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_0", "vit (torchvision)"])
@pytest.mark.parametrize("method", ["eigencam", "eigengradcam"])
def test_eigen_maps_equal_pytorch_grad_cam_up_to_sign(name, method):
    case = build(name)
    theirs = peers.grad_cam(method, case.network, case.layer, case.inputs, list(case.classes), case.reshape)
    ours = case.maps(method, relu=False, center=True)
    sign = (unit(ours) * unit(theirs)).sum((1, 2), keepdim=True).sign()
    assert_alike(ours, theirs * sign)


@needs_grad_cam
def test_eigencam_of_pytorch_grad_cam_centres_unlike_the_paper():
    case = build("resnet18")
    theirs = peers.grad_cam("eigencam", case.network, case.layer, case.inputs, list(case.classes))
    wanted = equation(case, "eigencam")
    assert distance(case.maps("eigencam"), wanted) <= 1e-5
    assert min(distance(theirs.relu(), wanted), distance((-theirs).relu(), wanted)) > DISAGREES


@needs_torchcam
@pytest.mark.parametrize("method", ["gradcam", "xgradcam", "layercam"])
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_map_equals_torchcam(name, method):
    case = build(name)
    theirs = peers.torchcam(method, case.network, case.layer, case.inputs, list(case.classes))
    assert_alike(case.maps(method), theirs)


@needs_torchcam
def test_cam_equals_torchcam():
    case = build("resnet18")
    theirs = peers.torchcam("cam", case.network, case.layer, case.inputs, list(case.classes))
    ours = case.maps("cam")
    assert_alike(ours, theirs)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)  # the same units too: the weights are the head's


@needs_captum
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_gradcam_equals_captum(name, relu):
    case = build(name)
    theirs = peers.captum(case.network, case.layer, case.inputs, list(case.classes), relu=relu)
    ours = case.maps("gradcam", relu=relu)
    assert_alike(ours, theirs[:, 0])
    torch.testing.assert_close(ours, theirs[:, 0], rtol=1e-4, atol=1e-5 * float(ours.abs().max()))


# Where a package differs from the equation. Each test fails when the package is mended, and then says less.


@needs_grad_cam
def test_gradcam_pp_of_pytorch_grad_cam_is_wrong_for_small_gradients():
    """It adds 1e-6 to a denominator of the size of the squared gradient."""
    case = build("resnet18")
    for head, theirs_is_right in ((1e3, True), (1.0, False), (1e-2, False)):
        other = scaled(case, head)
        wanted = equation(other, "gradcam++")
        theirs = peers.grad_cam("gradcam++", other.network, case.layer, case.inputs, list(case.classes))
        assert distance(other.maps("gradcam++"), wanted) <= 1e-5
        assert (distance(theirs.relu(), wanted) <= AGREES) is theirs_is_right
        assert (distance(theirs.relu(), wanted) > 5e-3) is not theirs_is_right


@needs_torchcam
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_gradcam_pp_of_torchcam_never_divides(name):
    """Its in-place division works on a copy, so that the weights are the cubes of the positive gradients."""
    case = build(name)
    wanted = equation(case, "gradcam++")
    theirs = peers.torchcam("gradcam++", case.network, case.layer, case.inputs, list(case.classes))
    A, G = case.captured()
    cubes = torch.einsum("bc,bcij->bij", (G.relu() ** 3).flatten(2).sum(-1), A).relu()
    assert distance(theirs, cubes) <= AGREES
    assert distance(theirs, wanted) > DISAGREES
    assert distance(case.maps("gradcam++"), wanted) <= 1e-5


@needs_grad_cam
@needs_torchcam
def test_xgradcam_of_other_packages_fades_with_small_activations():
    """pytorch-grad-cam adds 1e-7 to the sum of the activations and torchcam 1e-8, whatever their size."""
    inputs, classes = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0)), [0, 2]
    network, layout = TinyNetwork.build(head="linear"), saywhy.Layout("channels-first", (6, 6))
    as_it_is = saywhy.explain(network, inputs, torch.tensor(classes), "xgradcam", "features", layout=layout).maps[:, 0]
    with torch.no_grad():  # in other units, from the layer on
        for parameter in network.features.parameters():
            parameter.mul_(1e-8)
    ours = saywhy.explain(network, inputs, torch.tensor(classes), "xgradcam", "features", layout=layout).maps[:, 0]
    assert_alike(ours, as_it_is)
    assert distance(peers.grad_cam("xgradcam", network, "features", inputs, classes).relu(), as_it_is) > 5e-2
    assert distance(peers.torchcam("xgradcam", network, "features", inputs, classes), as_it_is) > 5e-3


@needs_captum
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_captum_gradcam_of_a_transformer_returns_no_map_without_error(name):
    """It takes tokens for channels: a row as long as the embedding comes out, with no error."""
    if "timm" in name:
        pytest.importorskip("timm", reason="needs the package timm")
    case = build(name)
    theirs = peers.captum(case.network, case.layer, case.inputs, list(case.classes))
    A, _ = case.captured()
    assert theirs.shape == (2, 1, A.shape[1])
    assert case.maps("gradcam").shape == (2, 4, 4)
    assert distance(case.maps("gradcam"), equation(case, "gradcam")) <= 1e-5


@needs_grad_cam
def test_pytorch_grad_cam_drops_images_without_a_target():
    """Two images and one target: the second map is zero there, and an error here."""
    case = build("resnet18")
    theirs = peers.grad_cam("gradcam", case.network, case.layer, case.inputs, [case.classes[0]])
    assert float(theirs[0].abs().max()) > 0
    assert float(theirs[1].abs().max()) == 0
    one = torch.tensor([case.classes[0]])
    with pytest.raises(saywhy.errors.TargetError, match="for 2 samples"):
        saywhy.explain(case.network, case.inputs, one, layer=case.layer, layout=case.layout)
