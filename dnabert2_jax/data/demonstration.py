"""The data of the quickstart: genomes and labelled sequences, simulated or drawn from the user's genomes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dnabert2_jax.data.labelled import write_labelled
from dnabert2_jax.genome.examples import promoter_examples
from dnabert2_jax.genome.fasta import write_fasta
from dnabert2_jax.genome.sampling import sample_windows
from dnabert2_jax.genome.simulate import simulate_genomes

_WINDOW_BASES = 300
_SPECIES = 3
_BASES_PER_SPECIES = 600_000
_WINDOWS_PER_CLASS = {"train": 1000, "dev": 125, "test": 125}


def write_simulated_data(genomes: Path, labelled: Path, *, seed: int) -> list[Path]:
    """Writes simulated genomes as FASTA, and promoters against other sequences as labelled CSV files.

    Returns:
      The FASTA files.
    """
    simulated = simulate_genomes(_SPECIES, _BASES_PER_SPECIES, seed)
    files = [genomes / f"{genome.name}.fa.gz" for genome in simulated]
    for file, genome in zip(files, simulated, strict=True):
        write_fasta(file, genome.contigs)
    names = ("other", "promoter")
    examples = promoter_examples(simulated, length=_WINDOW_BASES, seed=seed)
    write_labelled(
        labelled,
        {split: [(text, names[label]) for text, label in pairs] for split, pairs in examples.items()},
    )
    return files


def write_genome_windows(species: Sequence[tuple[str, str]], labelled: Path, *, seed: int) -> None:
    """Writes windows of genomes as labelled CSV files; a window's label is its species.

    Of a single genome the windows stand against themselves with their bases shuffled.

    Args:
      species: name and FASTA file of each.
      labelled: the folder to write.
      seed: of the draw.

    Raises:
      UserError: a genome is too small.
    """
    rng = np.random.default_rng(seed)
    classes = {
        name: sample_windows(file, _WINDOWS_PER_CLASS, length=_WINDOW_BASES, seed=seed)
        for name, file in species
    }
    if len(classes) == 1:
        (windows,) = classes.values()
        classes["shuffled"] = {
            split: ["".join(rng.permutation(list(text))) for text in texts]
            for split, texts in windows.items()
        }
    splits = {}
    for split in _WINDOWS_PER_CLASS:
        rows = [(text, name) for name, windows in classes.items() for text in windows[split]]
        splits[split] = [rows[index] for index in rng.permutation(len(rows))]
    write_labelled(labelled, splits)
