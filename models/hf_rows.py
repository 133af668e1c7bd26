"""Rows of a table of Hugging Face's names: a tensor of theirs, and what it is of ours."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def always(config: Any) -> bool:
    return True


Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Their tensor, our canonical name, and whether the two are each other's transpose. `{i}` stands for a layer's number, from `first` on;
    `where` tells of one of our configurations whether its models have this tensor.
    """

    theirs: str
    ours: str
    transposed: bool = False
    where: Callable[[Any], bool] = always
    first: int = 0

    @property
    def parts(self) -> tuple[str, ...]:
        return (self.ours,)

    def split(self, value: np.ndarray, config: Any) -> tuple[np.ndarray, ...]:
        return (value.T if self.transposed else value,)

    def join(self, values: Sequence[np.ndarray], config: Any) -> np.ndarray:
        return values[0].T if self.transposed else values[0]

    def shape(self, shapes: Sequence[Shape], config: Any) -> Shape:
        return shapes[0][:: -1 if self.transposed else 1]


@dataclasses.dataclass(frozen=True)
class Layout:
    """How values of ours lie in one tensor of theirs: apart, together, and the shape of the whole; each is told our configuration."""

    split: Callable[[np.ndarray, Any], Sequence[np.ndarray]]
    join: Callable[[Sequence[np.ndarray], Any], np.ndarray]
    shape: Callable[[Sequence[Shape], Any], Shape]


@dataclasses.dataclass(frozen=True)
class Packed:
    """Their tensor that holds several of our parameters, or one that lies otherwise than transposed. As `Tensor` in all else."""

    theirs: str
    parts: tuple[str, ...]
    layout: Layout
    where: Callable[[Any], bool] = always
    first: int = 0

    @property
    def ours(self) -> str:
        return self.parts[0]

    def split(self, value: np.ndarray, config: Any) -> Sequence[np.ndarray]:
        return self.layout.split(value, config)

    def join(self, values: Sequence[np.ndarray], config: Any) -> np.ndarray:
        return self.layout.join(values, config)

    def shape(self, shapes: Sequence[Shape], config: Any) -> Shape:
        return self.layout.shape(shapes, config)


Row = Tensor | Packed


def kernel(theirs: str, ours: str, where: Callable[[Any], bool] = always) -> Tensor:
    """torch keeps the weight of a Linear as [out, in]; our kernels are [in, out]."""
    return Tensor(f"{theirs}.weight", f"{ours}/kernel", True, where)


def linear(theirs: str, ours: str, where: Callable[[Any], bool] = always) -> tuple[Tensor, Tensor]:
    return kernel(theirs, ours, where), Tensor(f"{theirs}.bias", f"{ours}/bias", where=where)


def norm(theirs: str, ours: str, where: Callable[[Any], bool] = always) -> tuple[Tensor, Tensor]:
    return Tensor(f"{theirs}.weight", f"{ours}/scale", where=where), Tensor(f"{theirs}.bias", f"{ours}/bias", where=where)
