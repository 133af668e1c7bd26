"""Mixtures: how much of each source, and which source comes when.

Rates by size e_m (T5: Raffel et al. 2019, arXiv 1910.10683, section 3.5.2):

    proportional   r_m ~ min(e_m, K)             the cap K keeps one large source from drowning the others
    temperature    r_m ~ min(e_m, K)^(1/T)       T = 1 is proportional, T large is equal; K = 2^21
    equal          r_m ~ 1

`order` spreads whole shares evenly: example i of a mixture is from source s and the j-th of it, both read off a table of one cycle. After
any n examples source s has given n * share_s / cycle of them to less than one example. The shares are the rates where those are simple
fractions, else right to 1 / `CYCLE` (one at least).
"""

import functools
import heapq
import math
from collections.abc import Iterable, Mapping
from fractions import Fraction

import numpy as np
from jaxtyping import Int64

from rootstock.data.errors import DataError

Rates = Mapping[str, float]
Cycle = Int64[np.ndarray, "cycle"]

TEMPERATURE_LIMIT = 2**21
CYCLE = 2**18  # examples after which a mixture repeats, at most
_EXACT = 1e-9  # a rate this near a simple fraction is meant as it


def proportional(sizes: Mapping[str, int], cap: float = math.inf) -> dict[str, float]:
    """By number of examples, none counted for more than `cap`."""
    return temperature(sizes, 1.0, cap)


def temperature(sizes: Mapping[str, int], temperature: float, cap: float = TEMPERATURE_LIMIT) -> dict[str, float]:
    """By capped size to the power of 1 / temperature."""
    if not temperature > 0 or not cap > 0:
        raise DataError(f"a mixture has temperature {temperature} and cap {cap}; expected numbers above 0.")
    return normalised({name: min(size, cap) ** (1 / temperature) for name, size in sizes.items()})


def equal(names: Iterable[str]) -> dict[str, float]:
    return normalised(dict.fromkeys(names, 1.0))


def normalised(rates: Rates) -> dict[str, float]:
    """Rates that add up to 1. Each must be a number above 0: a source that gives nothing is left out by not naming it."""
    bad = {name: rate for name, rate in rates.items() if not (rate > 0 and math.isfinite(rate))}
    if bad:
        raise DataError(f"the rates of a mixture are numbers above 0; seen {bad}. Leave out what is not wanted.")
    if not rates:
        raise DataError("a mixture needs at least one source; none is named.")
    total = math.fsum(rates.values())
    return {name: rate / total for name, rate in rates.items()}


def shares(rates: Rates, batch_size: int) -> dict[str, int]:
    """How many of `batch_size` examples each source gives: the largest remainders are rounded up, and each gives at least one."""
    if batch_size < len(rates):
        raise DataError(f"a batch of {batch_size} examples has no room for one of each of {len(rates)} sources; take a larger one.")
    wanted = {name: rate * batch_size for name, rate in normalised(rates).items()}
    found = {name: max(1, math.floor(want)) for name, want in wanted.items()}
    while (rest := batch_size - sum(found.values())) != 0:
        change = int(math.copysign(1, rest))
        able = [name for name in found if found[name] + change >= 1]
        name = max(able, key=lambda name: change * (wanted[name] - found[name]))
        found[name] += change
    return found


def cycle_shares(rates: Rates) -> dict[str, int]:
    """The smallest whole numbers in proportion to the rates, if they add up to no more than `CYCLE`; else `CYCLE` cut by `shares`: right
    to 1 / `CYCLE`."""
    exact = normalised(rates)
    near = {name: Fraction(rate).limit_denominator(CYCLE) for name, rate in exact.items()}
    length = math.lcm(*(fraction.denominator for fraction in near.values()))
    meant = all(abs(near[name] - rate) <= _EXACT * rate for name, rate in exact.items()) and sum(near.values()) == 1
    return {name: int(fraction * length) for name, fraction in near.items()} if meant and length <= CYCLE else shares(rates, CYCLE)


@functools.lru_cache(maxsize=8)
def order(shares: tuple[int, ...]) -> tuple[Cycle, Cycle]:
    """For each place of a cycle the number of its source, and how many of that source stand before it.

    Example j of a source with share s in a cycle of n may stand at places floor(j n / s) to ceil((j + 1) n / s) - 1; taking the most urgent
    one of those that may stand at a place meets every deadline (Steiner and Yeomans 1993, "Level schedules for mixed-model, just-in-time
    processes").
    """
    length = sum(shares)
    sources, before = np.empty(length, np.int64), np.empty(length, np.int64)
    waiting = [(0, source, 0) for source in range(len(shares))]  # first place, source, number
    ready: list[tuple[int, int, int]] = []  # last place, source, number
    for place in range(length):
        while waiting and waiting[0][0] <= place:
            _, source, number = heapq.heappop(waiting)
            heapq.heappush(ready, (-(-(number + 1) * length // shares[source]) - 1, source, number))
        _, source, number = heapq.heappop(ready)
        sources[place], before[place] = source, number
        if number + 1 < shares[source]:
            heapq.heappush(waiting, ((number + 1) * length // shares[source], source, number + 1))
    return sources, before
