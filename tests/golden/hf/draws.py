"""What the makers of the stored cases share."""

import numpy as np
import torch


def uniform(rng, std, shape):
    """Float32 draws with mean 0 and the given standard deviation."""
    return ((2 * rng.random_sample(shape) - 1) * (std * np.sqrt(3))).astype(np.float32)


def to_torch(array):
    return torch.from_numpy(array).long() if array.dtype == np.int32 else torch.from_numpy(array)


def all_to_torch(arrays):
    return {key: to_torch(value) for key, value in arrays.items()}
