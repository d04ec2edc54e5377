"""The corpus on disk, the windows that pre-training reads, and labelled sequences. Knows no JAX."""
