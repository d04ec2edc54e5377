"""Attention with the ALiBi bias: one op with several bodies. Knows no model."""
