"""DFR: the last linear layer is found, and trained like a logistic regression on balanced groups."""

import pytest
import torch
from torch import Tensor, nn

from planted_images import Network
from saywhy.errors import InputError
from saywhy.fixing.last_layer import DECAYS, _balanced, _logistic, features_of, last_linear, retrained


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def confounded(images: int = 200) -> tuple[Tensor, Tensor, Tensor]:
    """Features whose first channel is the class and whose second, stronger one an attribute; 1 of 10 disagree."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(images) % 2
    attribute = torch.where(torch.arange(images) % 20 < 18, labels, 1 - labels)
    noise = torch.randn(images, 3, generator=generator, dtype=torch.float64)
    signs = torch.stack([2.0 * labels - 1, 4.0 * attribute - 2, 0.0 * labels], 1)
    return 0.3 * noise + signs + 5, labels, 2 * labels + attribute


class TestLastLinear:
    def test_is_the_layer_that_gives_the_scores(self):
        network, x = Network().eval(), torch.rand(2, 3, 24, 24)
        assert last_linear(network, lambda: network(x)) is network.fc

    def test_is_not_a_layer_of_the_same_shape_before_it(self):
        network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.Linear(2, 2), nn.Linear(2, 2))
        x = torch.rand(3, 4)
        assert last_linear(network, lambda: network(x)) is network[3]

    @pytest.mark.parametrize("end", [nn.Softmax(1), nn.Tanh()])
    def test_scores_behind_another_operation_are_refused(self, end):
        network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), end)
        with pytest.raises(InputError, match="class scores of Sequential are not the output of one"):
            last_linear(network, lambda: network(torch.rand(3, 4)))

    def test_a_layer_without_biases_is_refused(self):
        """The intercept of the regression has no place there."""
        network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
        with pytest.raises(InputError, match="with biases"):
            last_linear(network, lambda: network(torch.rand(3, 4)))

    def test_no_hook_is_left(self):
        network = nn.Sequential(nn.Linear(4, 2), nn.Tanh())
        with pytest.raises(InputError):
            last_linear(network, lambda: network(torch.rand(3, 4)))
        features_of(network[0], lambda: network(torch.rand(3, 4)))
        assert not network[0]._forward_hooks
        assert not network[0]._forward_pre_hooks


def test_features_are_the_inputs_of_all_batches():
    layer, x = nn.Linear(4, 2), torch.rand(5, 4)
    found = features_of(layer, lambda: [layer(part) for part in x.split(2)])
    assert torch.equal(found, x.double())


class TestRetrained:
    @pytest.mark.slow  # scikit-learn is slow to import
    @pytest.mark.parametrize("decay", DECAYS)
    def test_regression_agrees_with_scikit_learn(self, decay):
        linear_model = pytest.importorskip("sklearn.linear_model")
        x, y = drawn(0, 60, 4), torch.arange(60) % 3
        x[:, 0] += y
        W, b = _logistic(x, y, 3, decay)
        peer = linear_model.LogisticRegression(C=1 / (decay * len(x)), max_iter=5000, tol=1e-10).fit(x, y)
        theirs = torch.tensor(peer.predict_log_proba(x))
        torch.testing.assert_close((x @ W.T + b).log_softmax(1), theirs, atol=1e-3, rtol=0)

    @pytest.mark.slow
    def test_agrees_with_scikit_learn_on_balanced_groups(self):
        """Where every group is as large, each balanced subset is all images, and the mean of the fits is one fit."""
        linear_model = pytest.importorskip("sklearn.linear_model")
        x, y, groups = confounded()
        some = torch.cat([(groups == g).nonzero()[:10, 0] for g in range(4)])
        x, y, groups = x[some], y[some], groups[some]
        W, b, decay = retrained(x, y, groups, 2)
        standard = (x - x.mean(0)) / x.std(0)
        # Of two classes scikit-learn has one vector, the difference of ours, whose square is twice that of both.
        peer = linear_model.LogisticRegression(C=2 / (decay * len(x)), max_iter=5000, tol=1e-10).fit(standard, y)
        ours = (x @ W.T + b).diff(dim=1)[:, 0]
        torch.testing.assert_close(ours, torch.tensor(peer.decision_function(standard)), atol=1e-3, rtol=0)

    @pytest.mark.slow
    def test_the_worst_group_gains_over_a_fit_of_all_images(self):
        x, y, groups = confounded()
        W, b, _ = retrained(x, y, groups, 2)
        plain_W, plain_b = _logistic(x, y, 2, 1.0)

        def worst(weights: Tensor, biases: Tensor) -> float:
            right = (x @ weights.T + biases).argmax(1) == y
            return min(float(right[groups == g].double().mean()) for g in range(4))

        assert worst(W, b) > 0.9
        assert worst(plain_W, plain_b) < 0.5

    @pytest.mark.slow
    def test_the_same_seed_gives_the_same_weights(self):
        x, y, groups = confounded()
        one, same, other = (retrained(x, y, groups, 2, seed)[0] for seed in (0, 0, 1))
        assert torch.equal(one, same)
        assert not torch.equal(one, other)

    def test_a_group_of_one_image_is_refused(self):
        x, y, groups = confounded(20)
        with pytest.raises(InputError, match="two images of every group on 'val', and group 1 has 1"):
            retrained(x, y, groups, 2)

    def test_subsets_hold_as_many_images_of_every_group(self):
        groups = torch.tensor([0] * 7 + [1] * 3 + [2] * 5)
        among = torch.ones(15, dtype=torch.bool)
        among[7] = False
        some = _balanced(groups, among, torch.Generator().manual_seed(0))
        assert groups[some].bincount().tolist() == [2, 2, 2]
        assert len(some.unique()) == 6
        assert 7 not in some
