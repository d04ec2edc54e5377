"""How much of training each species gets: a corpus' metadata and a rule in, shares that add up to 1 out.

The default rule is bases ^ 0.7. The paper draws in proportion to bases; of its 135 species (Table 11)
vertebrates then make up 82 % of what a model sees and the 101 bacteria 1.1 %. Equal shares turn that round:
74 % bacteria, 9 % vertebrates, and each small genome is read some thousands of times in the paper's 262
billion tokens. In between, with the passes over both strands that those tokens make:

    exponent                1     0.9   0.8   0.7   0.6   0.5   0.3   0
    vertebrates, %          82    79    76    71    64    56    34    9
    bacteria, %             1.1   2.0   3.6   6.4   11    18    40    74
    passes, human           19    18    17    15    13    11    6.4   1.5
    passes, usual bacterium 19    36    66    119   206   340   752   1344

0.7, which multilingual BERT uses for its languages, gives bacteria six times their part and fungi three times
theirs, costs the human genome a fifth of its passes, and leaves most of training to vertebrates, which most
tasks of the GUE benchmark are about. Below 0.6 the smallest genomes are read so often that a model of 117 M
parameters can learn them by heart. That is an argument and no measurement; "proportional" is the paper's way.
"""

from typing import Literal

import numpy as np

from dnabert2_jax.data.layout import CorpusMetadata
from dnabert2_jax.errors import UserError

DEFAULT_EXPONENT = 0.7

SpeciesWeights = Literal["corpus", "proportional", "equal"] | float
"""A rule: "corpus" takes the weights of the table that the corpus was built from, or where it has none
bases ^ 0.7; "proportional" is bases ^ 1, "equal" bases ^ 0, and a number from 0 to 1 is the exponent."""


def species_shares(metadata: CorpusMetadata, weights: SpeciesWeights = "corpus") -> np.ndarray:
    """The share of training windows of each species: float64 [species], which adds up to 1.

    A species without training text has none.

    Args:
      metadata: of the corpus.
      weights: the rule.

    Raises:
      UserError: there is no such rule.
    """
    bases = np.array([counts.train_bases for counts in metadata.species], np.float64)
    given = [counts.weight for counts in metadata.species]
    if weights == "corpus" and any(weight is not None for weight in given):
        raw = np.where(bases > 0, np.array([weight or 0.0 for weight in given]), 0.0)
    else:
        raw = np.where(bases > 0, bases ** _exponent(weights), 0.0)
    return raw / raw.sum()


def _exponent(weights: SpeciesWeights) -> float:
    named = {"corpus": DEFAULT_EXPONENT, "proportional": 1.0, "equal": 0.0}
    if isinstance(weights, str):
        if weights in named:
            return named[weights]
    elif 0 <= weights <= 1:
        return float(weights)
    raise UserError(
        f"species weights are {weights!r};"
        " choose 'corpus', 'proportional', 'equal' or an exponent from 0 to 1"
    )
