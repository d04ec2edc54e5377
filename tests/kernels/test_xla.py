"""The dense body passes the checks of all bodies, also in float64."""

from attention_checks import AttentionChecks


class TestXla(AttentionChecks):
    body = "xla"
    dtypes = ("float32", "bfloat16", "float64")
    quick_length = 512
