"""Genomes on disk and in memory: FASTA in, sequences, a simulator of genomes. NumPy only."""
