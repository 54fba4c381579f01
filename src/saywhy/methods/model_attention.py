r"""The attention of a VQA or captioning model itself: its glimpses, or its attention at the turn of a word."""

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
    r"""The model's own attention over positions (Yang et al., 2016; Xu et al., 2015), from its output.

    .. math:: M_p = \tfrac{1}{G} \sum_g a_{g,p}, \qquad \sum_p a_{g,p} = 1

    For a word it is the attention at the turn of that word, for a sentence the mean over its words, for an answer the
    mean over all glimpses, which is the same for all answers. It shows which features were pooled, not their effect on
    the answer; papers show it as an explanation nevertheless.

    Args:
        runner: a network whose output has ``attention`` [batch, glimpse or turn, *space], as
            :class:`saywhy.tasks.vqa.networks.VQAOutput` and :class:`saywhy.tasks.generation.networks.CaptionOutput` do.

    Returns:
        Maps [batch, target, *space] on the grid of that attention, 0 to 1; the values of a map sum to 1.

    Raises:
        MethodError: the output has no such attention.

    >>> from types import SimpleNamespace
    >>> import torch
    >>> def network(x):
    ...     a = x.flatten(2).softmax(-1)
    ...     return SimpleNamespace(logits=(a * x.flatten(2)).sum(-1), attention=a.view_as(x))
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
    return runner.model_attention()
