"""Eight fake CPU devices, strict dtypes and ranks, warnings as errors, shapes checked at run time."""

import os
import warnings

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import jax  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")

jaxtyping.install_import_hook("rootstock.models", "beartype.beartype")
jaxtyping.install_import_hook("rootstock.pretrain", "beartype.beartype")
jaxtyping.install_import_hook("rootstock.finetune", "beartype.beartype")


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def real_data():
    """The folder of real data sets, where ROOTSTOCK_REAL_DATA names one."""
    folder = os.environ.get("ROOTSTOCK_REAL_DATA")
    if not folder:
        pytest.skip("ROOTSTOCK_REAL_DATA is not set: no real data here")
    return folder
