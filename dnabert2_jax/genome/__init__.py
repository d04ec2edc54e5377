"""Genomes on disk and in memory: FASTA and BED in, sequences, a simulator of genomes. No JAX."""
