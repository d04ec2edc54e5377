"""The DNABERT-2 encoder and its heads, and the released file format. Knows no sequences."""
