r"""Where a network of questions or captions says itself that it looked: its glimpses, or what it read for a word."""

from torch import Tensor

from saywhy.engine.runner import ModelRunner
from saywhy.methods.registry import method


@method(
    "model-attention",
    title="the model's own attention",
    paper="Yang et al., 2016",
    equation="mean over glimpses of a, Σₚ aₚ = 1, from the network's output",
    family="attention",
    order=140,
    uses_gradients=False,
    passes="several",
    shows="activity",
)
def model_attention(runner: ModelRunner) -> Tensor:
    r"""The attention over places with which the network itself has pooled its features (Yang et al., 2016; Xu et al.,
    2015), from its output.

    .. math:: M_p = \tfrac{1}{G} \sum_g a_{g,p}, \qquad \sum_p a_{g,p} = 1

    Of a word it is the attention of that word's turn, of a sentence the mean over its words; of an answer the mean over
    all glimpses, the same for all answers. It shows what was read and not what it did to the answer; papers show it as
    an explanation all the same.

    Args:
        runner: a network whose output has ``attention`` [batch, glimpse or turn, *space], as
            :class:`saywhy.tasks.vqa.networks.VQAOutput` and :class:`saywhy.tasks.captioning.networks.Said` do.

    Returns:
        Maps [batch, target, *space] on the grid of that attention, 0 to 1, each adding up to 1.

    Raises:
        MethodError: the output has no such attention.

    >>> from types import SimpleNamespace
    >>> import torch
    >>> def network(x):
    ...     seen = x.flatten(2).softmax(-1)
    ...     return SimpleNamespace(logits=(seen * x.flatten(2)).sum(-1), attention=seen.view_as(x))
    >>> import saywhy
    >>> class Network(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.features = torch.nn.Identity()
    ...     def forward(self, x):
    ...         return network(self.features(x))
    >>> x = torch.tensor([[[[0.0, 0.0], [0.0, 1.0986]]]])
    >>> layout = saywhy.Layout("channels-first", (2, 2))
    >>> saywhy.explain(Network(), x, 0, "model-attention", "features", layout=layout).maps[0, 0]
    tensor([[0.1667, 0.1667],
            [0.1667, 0.5000]])
    """
    return runner.attended()
