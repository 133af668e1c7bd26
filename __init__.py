"""Rootstock: pretrain, upcycle, fine-tune and evaluate language models in JAX, on one GPU or a pod, with the same recipes."""
