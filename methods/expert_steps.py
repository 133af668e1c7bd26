"""Smaller steps for experts (Artetxe et al. 2021, arXiv 2112.10684): an expert sees 1/E of the tokens, so its step shrinks by 1/sqrt(E).

    update_expert <- factor * update_expert

The paper scales learning rate or gradient, which for Adam differ: a factor on the gradient changes next to nothing there, so it is the step
that is scaled here.
"""

import optax

from rootstock.engine.sockets import Update
from rootstock.models.layers import stack


def scaled(update: Update, factor: float) -> Update:
    """`update` with the steps of all experts multiplied by `factor`."""
    if not factor > 0:
        raise ValueError(f"expert_steps.scaled.factor is {factor}; expected a number above 0")

    def step(updates, state, params=None):
        updates, state = update.tx.update(updates, state, params)
        return {name: x * factor if stack.expert(name) else x for name, x in updates.items()}, state

    return Update(optax.GradientTransformation(update.tx.init, step), update.learning_rate, update.eval_params)
