"""Logistic regression with the strength of its penalty chosen on dev: features in, test probabilities out."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from dnabert2_jax.data.labelled import LabelledData
from dnabert2_jax.evaluation.predictions import Predictions, mean_loss

# C of scikit-learn: how much the data count against the penalty.
_STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
_MOST_ITERATIONS = 10_000


class Chosen(NamedTuple):
    """What the regression of the lowest dev loss says.

    Attributes:
      probabilities: of the test rows, float64 [n, C].
      strength: C of scikit-learn, for features whose rows have a mean square length of 1.
      dev_loss: nats per example.
    """

    probabilities: np.ndarray
    strength: float
    dev_loss: float


def predict_classes(
    features: tuple[np.ndarray, np.ndarray, np.ndarray],
    data: LabelledData,
    started: float,
    settings: Mapping[str, Any],
) -> Predictions:
    """What the regression says of the test split.

    Args:
      features: of train, dev and test, as of `fit_logistic`.
      data: whose labels are learnt.
      started: the `time.perf_counter` of when the work on the features began.
      settings: how the features were made; what was chosen on dev is added.
    """
    labels = data.train.labels, data.dev.labels
    chosen = fit_logistic(features, labels, len(data.class_names))
    found = {"features": features[0].shape[1], "C": chosen.strength, "dev_loss": chosen.dev_loss}
    return Predictions(chosen.probabilities, time.perf_counter() - started, {**settings, **found})


def fit_logistic(
    features: tuple[np.ndarray, np.ndarray, np.ndarray], labels: tuple[np.ndarray, np.ndarray], classes: int
) -> Chosen:
    """Fits on train, chooses on dev, predicts test.

    Penalties are tried from the strongest on, each from the weights found before, until the dev loss rises.

    Args:
      features: of train, dev and test, float64 [rows, F]; centred and scaled in place.
      labels: of train and dev, int [rows], 0 to C - 1; at least two of them occur in train.
      classes: C. One that training lacks has a probability of 0.
    """
    from sklearn.linear_model import LogisticRegression

    _centre_and_scale(features)
    train, dev, test = features
    model = LogisticRegression(solver="lbfgs", max_iter=_MOST_ITERATIONS, tol=3e-5, warm_start=True)
    best: Chosen | None = None
    for strength in _STRENGTHS:
        model.set_params(C=strength).fit(train, labels[0])
        loss = mean_loss(_probabilities(model, dev, classes), labels[1])
        if best is not None and loss >= best.dev_loss:
            break
        best = Chosen(_probabilities(model, test, classes), strength, loss)
    assert best is not None
    return best


def _centre_and_scale(features: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Takes away the mean of train, which spares iterations and changes nothing else, and scales by one
    number, so that the same penalties suit all features."""
    train = features[0]
    mean = train.mean(axis=0)
    for part in features:
        part -= mean
    scale = np.sqrt(np.einsum("nf,nf->", train, train) / len(train))
    for part in features:
        part /= scale or 1.0


def _probabilities(model, features: np.ndarray, classes: int) -> np.ndarray:
    """[rows, C], with a column for each class that training lacks."""
    probabilities = np.zeros((len(features), classes))
    probabilities[:, model.classes_] = model.predict_proba(features)
    return probabilities
