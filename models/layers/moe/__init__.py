"""Mixtures of experts: `mixture.Mixture` is what a configuration's `mlp` is set to; `routers` choose, `dispatch` carries tokens."""
