r"""Feature distillation: what a student's last layer reads is to tell the teacher's latent, too.

Beside the score, an auxiliary head of each student, a linear map :math:`A f + b` from its features
:math:`f` (what its last layer reads) to the teacher's latent :math:`z`, standardised over the batch
or the normals, is trained with the student and adds

.. math:: w \, \frac{1}{n} \sum_j |z_j - (A f + b)_j|

to its loss (in the spirit of FitNets, arXiv 1412.6550). The head is float, belongs to the training
alone and is not in the student that is stored. Whether this helps is the open question of
arXiv 2310.06047; `tests/benchmarks/results/ablations.json` has what we saw.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

__all__ = ["FeatureHeads", "standardise"]


class FeatureHeads:
    """The auxiliary heads of some students; their weights lie in a vector, one after the other.

    Parameters
    ----------
    features
        Of each student: how many, and the LSB of their counts.
    latent
        Numbers in the teacher's latent.
    weight
        Of the loss.
    """

    def __init__(
        self, features: Mapping[str, tuple[int, float]], latent: int, weight: float
    ) -> None:
        self.features, self.latent, self.weight = dict(features), latent, weight
        self._starts: dict[str, int] = {}
        self.size = 0
        for name, (units, _) in self.features.items():
            self._starts[name] = self.size
            self.size += (units + 1) * latent

    def start(self) -> NDArray[np.float32]:
        """Untrained weights: a head that says 0, the mean of a standardised latent."""
        return np.zeros(self.size, np.float32)

    def loss(self, vector: Any, name: str, features: Any, latent: Any) -> Any:
        """A scalar, for features (batch, units) in counts and latents (batch, latent)."""
        units, lsb = self.features[name]
        start = self._starts[name]
        kernel = tf.reshape(vector[start : start + units * self.latent], (units, self.latent))
        bias = vector[start + units * self.latent : start + (units + 1) * self.latent]
        told = tf.matmul(features * lsb, kernel) + bias
        return self.weight * tf.reduce_mean(tf.abs(told - latent))


def standardise(latent: Any, normals: int) -> Any:
    """Latents (batch, numbers) in units of their spread over the first `normals` of the batch."""
    mean, variance = tf.nn.moments(latent[:normals], axes=[0])
    # A number that is the same for all events tells nothing.
    return (latent - mean) / tf.sqrt(tf.maximum(variance, 1e-6))
