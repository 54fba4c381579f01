"""KPCA-CAM, FEM, Seg-Eigen-CAM, Shapley-CAM, Finer-CAM, Refine-CAM and concepts, as other packages make them."""

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

import saywhy
from parity import peers
from parity.cases import CONVOLUTIONAL, Case, build, distance, unit
from parity.packages import grad_cam
from parity.test_peers import DISAGREES, assert_alike, needs_grad_cam, needs_torchcam
from saywhy.targets import finer

pytestmark = pytest.mark.slow

NETWORKS = (*CONVOLUTIONAL, "vit (torchvision)")


def turned_as(ours: Tensor, theirs: Tensor) -> Tensor:
    """Theirs, with the sign of ours where a component has none."""
    return theirs * (unit(ours) * unit(theirs)).sum((1, 2), keepdim=True).sign()


@needs_grad_cam
@pytest.mark.parametrize("kernel", ["sigmoid", "rbf"])
@pytest.mark.parametrize("name", NETWORKS)
def test_kpcacam_equals_pytorch_grad_cam_up_to_sign(name, kernel):
    case = build(name)
    ours = case.maps("kpcacam", relu=False, kernel=kernel)
    assert_alike(ours, turned_as(ours, grad_cam("kpcacam", kernel=kernel)(case)))


@needs_grad_cam
@pytest.mark.parametrize("name", NETWORKS)
def test_segeigencam_equals_pytorch_grad_cam(name):
    case = build(name)
    assert_alike(case.maps("segeigencam", relu=False), grad_cam("segeigencam")(case))


@needs_grad_cam
@pytest.mark.parametrize("name", NETWORKS)
def test_fem_of_pytorch_grad_cam_sums_channels_and_not_their_masks(name):
    """The paper weighs the mask of each channel by its mean; the package each channel by the share of its mask."""
    case = build(name)
    theirs = grad_cam("fem", k=1)(case)
    assert_alike(case.maps("fem", sigmas=1.0, variant="share"), theirs)
    assert distance(case.maps("fem", sigmas=1.0), theirs) > DISAGREES


@needs_grad_cam
def test_shapleycam_of_pytorch_grad_cam_fails_on_transformers():
    """Fused attention stops it, and then the activations, which it has not made into maps. Its weights are ours."""
    case = build("vit (torchvision)")
    with pytest.raises(RuntimeError, match="not implemented"):
        grad_cam("shapleycam")(case)
    kept: list[Tensor] = []
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), pytest.raises(ValueError, match="shape"):
        grad_cam("shapleycam", weights=kept)(case)
    A, _ = case.captured()
    assert_alike(case.maps("shapleycam", relu=False), torch.einsum("bc,bcij->bij", kept[0], A))


@needs_grad_cam
@pytest.mark.parametrize("name", NETWORKS)
def test_finer_equals_weighted_target_of_pytorch_grad_cam(name):
    """It weighs the references by their probabilities, through which it differentiates too; the paper does not."""
    case = build(name)
    kind = peers.module("pytorch_grad_cam.utils.model_targets").FinerWeightedTarget
    with torch.no_grad():
        outputs = case.network(case.inputs)
    for b, c in enumerate(case.classes):
        others = [i for i in (outputs[b] - outputs[b, c]).abs().argsort().tolist() if i != c][:3]
        one = case.sample(b)
        target = kind(c, others, 0.6)
        theirs = peers.grad_cam("gradcam", one.network, one.layer, one.inputs, [target], one.reshape)
        found = saywhy.explain(
            one.network, one.inputs, finer(c, weighted=True), "gradcam", one.layer, layout=one.layout, relu=False
        )
        assert_alike(found.maps[:, 0], theirs)


@needs_torchcam
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_finer_equals_torchcam(name):
    """The published form: the plain mean over the classes whose scores are nearest, strength 0.6."""
    case = build(name)
    network = copy.deepcopy(case.network).requires_grad_()
    with peers.module("torchcam.methods").FinerCAM(network, case.layer) as cam:
        theirs = cam(list(case.classes), network(case.inputs.clone()), normalized=False)[0].detach()
    wanted = finer(torch.tensor(case.classes))
    ours = saywhy.explain(case.network, case.inputs, wanted, "gradcam", case.layer, layout=case.layout).maps[:, 0]
    assert_alike(ours, theirs)


REFINED = {
    "resnet18": ["layer2", "layer3", "layer4"],
    "squeezenet1_0": ["features.5", "features.10", "features"],
    "mobilenet_v2": ["features.6", "features.13", "features"],
}


@needs_torchcam
@pytest.mark.parametrize("name", REFINED)
def test_refine_equals_torchcam(name):
    """With Layer-CAM, because Grad-CAM++ of torchcam is another method."""
    case = build(name)
    methods = peers.module("torchcam.methods")
    network = copy.deepcopy(case.network).requires_grad_()
    with methods.RefineCAM(network, REFINED[name], base_method=methods.LayerCAM) as cam:
        theirs = cam(list(case.classes), network(case.inputs.clone()), normalized=False)[0].detach()
    wanted = torch.tensor(case.classes)
    layouts = {layer: saywhy.Layout("channels-first", grid) for layer, grid in _grids(case, REFINED[name]).items()}
    maps = [
        saywhy.explain(case.network, case.inputs, wanted, "layercam", layer, layout=layout).maps
        for layer, layout in layouts.items()
    ]
    assert_alike(saywhy.methods.fuse(maps, "refine")[:, 0], theirs)


def _grids(case: Case, layers: list[str]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    handles = [
        case.network.get_submodule(n).register_forward_hook(
            lambda _m, _i, out, n=n: found.__setitem__(n, tuple(out.shape[2:]))
        )
        for n in layers
    ]
    with torch.no_grad():
        case.network(case.inputs)
    for handle in handles:
        handle.remove()
    return {n: found[n] for n in layers}


@needs_grad_cam
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_concepts_reconstruct_as_well_as_those_of_pytorch_grad_cam(name):
    """Factors are not unique; what they leave unexplained is compared. Both factorise A less each channel's lowest."""
    pytest.importorskip("sklearn", reason="needs the package sklearn")
    case = build(name)
    ours = saywhy.factorize(case.network, case.inputs, 4, layer=case.layer, layout=case.layout, shift=True)
    dff = peers.module("pytorch_grad_cam.feature_factorization.deep_feature_factorization").dff
    A, _ = case.captured()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        concepts, maps = dff(A.numpy().copy(), n_components=4)
    lowest = A.amin((0, 2, 3)).numpy()
    shifted = A.numpy() - lowest[:, None, None]
    rebuilt = np.einsum("ck,bkij->bcij", concepts - lowest[:, None], maps)
    theirs = np.linalg.norm(shifted - rebuilt) / np.linalg.norm(shifted)
    assert ours.error <= 1.01 * theirs  # each ends in a minimum of its own
    assert 0 < ours.error < 1
