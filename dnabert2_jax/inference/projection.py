"""A flat map of many vectors."""

import numpy as np


def principal_components(vectors: np.ndarray, count: int = 2) -> np.ndarray:
    """Projects vectors onto the directions in which they differ most.

    Args:
      vectors: [n, E].
      count: k, at most the smaller of n and E.

    Returns:
      float64 [n, k]. The sign of a direction is chosen so that its largest entry is positive.

    Examples:
      >>> principal_components(np.array([[0.0, 0, 3], [0, 1, 0], [0, -1, -3]])).shape
      (3, 2)
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[:count]
    largest = np.abs(directions).argmax(axis=1)
    signs = np.sign(directions[np.arange(len(directions)), largest])
    return centred @ (directions * signs[:, None]).T
