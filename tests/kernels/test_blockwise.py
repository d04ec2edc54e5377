"""The blockwise body passes the checks of all bodies, with its own blocks and with small ones."""

import pytest
from attention_checks import AttentionChecks

from dnabert2_jax.kernels import blockwise


class TestBlockwise(AttentionChecks):
    body = "blockwise"
    dtypes = ("float32", "bfloat16", "float64")
    quick_length = 512


class TestBlockwiseInSmallBlocks(AttentionChecks):
    """Rows of a hundred tokens are many blocks here, of which some are left out."""

    body = "blockwise"
    quick_length = 512

    @pytest.fixture(autouse=True)
    def small_blocks(self, monkeypatch):
        for name, value in {"_WHOLE": 32, "_QUERIES": 48, "_KEYS": 64, "_STEP": 32}.items():
            monkeypatch.setattr(blockwise, name, value)
