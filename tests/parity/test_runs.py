"""Methods of several passes, and of pixels, against those of other packages, raw."""

import pytest
import torch

from parity import peers
from parity.cases import assert_same, distance
from parity.runs import PEERS, Peer

IMPORTED = {"captum": "captum", "grad-cam": "pytorch_grad_cam", "torchcam": "torchcam", "zennit": "zennit"}
ASKED = [(name, peer, network) for name, some in PEERS.items() for peer in some for network in peer.networks]
DIFFERS = 1e-3

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU:UserWarning"),
]


@pytest.mark.parametrize(("name", "peer", "network"), ASKED, ids=[f"{n}-{p.package}-{k}-{p.same}" for n, p, k in ASKED])
def test_map_equals_other_package_or_is_a_known_difference(name: str, peer: Peer, network: str) -> None:
    """The second branch fails once the package is fixed."""
    if not peers.available(IMPORTED[peer.package]):
        pytest.skip(f"needs the package {peer.package}")
    if name in ("lime", "kernelshap"):
        pytest.importorskip("sklearn", reason="captum fits with scikit-learn")
    torch.manual_seed(0)
    case = peer.case(network)
    ours, theirs = peer.ours(case), peer.theirs(case)
    if peer.same:
        # The fit of KernelSHAP gives the whole and the empty image a million times the weight, in float32.
        assert_same(ours, theirs.to(ours), rtol=2e-3 if name == "kernelshap" else 1e-4)
    else:
        assert peer.note
        assert distance(ours, theirs) > DIFFERS
