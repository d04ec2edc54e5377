"""From DNA letters to token ids and back. Knows no JAX."""
