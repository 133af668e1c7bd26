"""Which layers of a stack have experts: functions from the number of layers to the numbers of those that do."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Every:
    """One layer in `stride`, the last of each group: layers 1, 3, 5, ... for 2 (flaxformer's "mixed"); all of them for 1."""

    stride: int = 2

    def __call__(self, layers: int) -> tuple[int, ...]:
        if not 1 <= self.stride <= layers:
            raise ValueError(f"Every.stride is {self.stride}; of {layers} layers it can be 1 to {layers}")
        return tuple(i for i in range(layers) if i % self.stride == self.stride - 1)


@dataclasses.dataclass(frozen=True)
class Last:
    """The last `count` layers (flaxformer's "top")."""

    count: int

    def __call__(self, layers: int) -> tuple[int, ...]:
        return tuple(range(layers))[layers - _within(self.count, layers, "Last") :]


@dataclasses.dataclass(frozen=True)
class First:
    """The first `count` layers (flaxformer's "bottom")."""

    count: int

    def __call__(self, layers: int) -> tuple[int, ...]:
        return tuple(range(_within(self.count, layers, "First")))


@dataclasses.dataclass(frozen=True)
class Listed:
    """These layers, counted from 0; the same in an encoder and in a decoder."""

    indices: tuple[int, ...]

    def __call__(self, layers: int) -> tuple[int, ...]:
        wrong = [i for i in self.indices if isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < layers]
        if wrong or not self.indices or len(set(self.indices)) < len(self.indices):
            raise ValueError(
                f"the layers with experts are {list(self.indices)}; expected at least one, and different numbers from 0 to {layers - 1}"
            )
        return tuple(sorted(self.indices))


def _within(count: int, layers: int, name: str) -> int:
    if not 1 <= count <= layers:
        raise ValueError(f"{name}.count is {count}; of {layers} layers it can be 1 to {layers}")
    return count
