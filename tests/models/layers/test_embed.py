"""Tables of vectors."""

import jax
import numpy as np

from rootstock.models.layers.embed import Sinusoids


def test_sinusoids():
    """Vaswani et al. 2017, section 3.5, up to the order of the columns: moving by k positions is one rotation wherever one starts."""
    table = np.asarray(Sinusoids(std=0.5)(jax.random.key(0), (40, 16)))
    np.testing.assert_allclose(np.sqrt((table**2).mean(1)), 0.5, rtol=1e-6)
    np.testing.assert_allclose(table[7, 3], 0.5 * np.sqrt(2) * np.sin(7 / 10000 ** (6 / 16)), rtol=1e-5)
    np.testing.assert_allclose(table[7, 11], 0.5 * np.sqrt(2) * np.cos(7 / 10000 ** (6 / 16)), rtol=1e-5)
    products = table @ table.T
    np.testing.assert_allclose(np.diagonal(products, 5), products[0, 5], rtol=1e-5)
