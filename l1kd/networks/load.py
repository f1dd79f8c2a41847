"""Models from files, without running anything that is in the file.

Keras' own loaders import modules that a file names and rebuild Python functions from its bytes,
"safe mode" or not. Here the stored configuration is read as plain data: layer classes come from a
table, their arguments are numbers, texts, lists and quantizers from another table, and weights are
read as arrays. What is not in the tables is refused by name.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf
from tensorflow import keras

from l1kd.core.errors import UserError
from l1kd.core.files import atomic
from l1kd.networks.keras_files import read_file
from l1kd.networks.layer_graph import Graph
from l1kd.networks.repair.batch_norm import fold_dense


@dataclass(frozen=True)
class Loaded:
    """A model from a file."""

    model: keras.Model  # with the stored weights, for inference
    # layers whose own batch normalisation was folded while reading: `QDenseBatchnorm`, which the
    # installed QKeras does not have. In inference they are what they were
    folded: list[str]


def save_model(model: keras.Model, path: Path) -> None:
    """Write a model to a `.keras` file, whole or not at all."""
    with atomic(path) as temporary:
        model.save(temporary, save_format="keras")


def load_model(path: str | Path) -> keras.Model:
    """Read a `.keras` or `.h5` model of Keras 2 and QKeras layers; no code in the file runs.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    keras.Model
        With the stored weights, for inference.

    Raises
    ------
    UserError
        If the file is missing or damaged, or holds a layer, a quantizer or an argument that is not
        on the list of those known to be harmless (a Lambda, a class of somebody's own, ...).
    """
    return read_model(path).model


def read_model(path: str | Path) -> Loaded:
    """As `load_model`, with what had to be done to the network to read it."""
    path = Path(path)
    try:
        graph = Graph.read(*read_file(path), str(path))
        folded = fold_dense(graph)
        return Loaded(graph.build(), folded)
    except UserError:
        raise
    except (OSError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise UserError(
            f"{path}: not a model that can be read ({type(error).__name__}: {error}); "
            "save it again as .keras with Keras 2"
        ) from error
    except (zipfile.BadZipFile, RecursionError, RuntimeError, EOFError) as error:
        raise UserError(f"{path}: a damaged model file ({error})") from error
    except (tf.errors.OpError, MemoryError, OverflowError, AssertionError) as error:
        raise UserError(
            f"{path}: a model that cannot be built ({type(error).__name__}: {error})"
        ) from error
