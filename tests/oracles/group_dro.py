"""Group DRO in loops over numbers, from algorithm 1 of Sagawa et al. (2020)."""

import math


def step(losses, groups, q, eta):
    """One step with a batch of several groups: the loss that is minimised and the new weights of the groups."""
    means = []
    for g in range(len(q)):
        of_group = [loss for loss, group in zip(losses, groups, strict=True) if group == g]
        means.append(sum(of_group) / len(of_group) if of_group else 0.0)
    grown = [weight * math.exp(eta * mean) for weight, mean in zip(q, means, strict=True)]
    q = [weight / sum(grown) for weight in grown]
    return sum(weight * mean for weight, mean in zip(q, means, strict=True)), q
