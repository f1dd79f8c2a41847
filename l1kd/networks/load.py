"""Loads and saves Keras models; no code from the file runs.

Keras' own loaders import modules that a file names and rebuild Python functions from its bytes,
"safe mode" or not. Here the stored configuration is plain data: layers and quantizers come from the
tables of `allowed_layers`, weights are read as arrays, anything else is refused by name.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import tensorflow as tf
from tensorflow import keras

from l1kd.core.errors import UserError
from l1kd.core.files import atomic
from l1kd.networks.keras_files import read_file
from l1kd.networks.layer_graph import Graph, Repair
from l1kd.networks.repair import fold_own


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
        The network with its stored weights, for inference. A `QDenseBatchnorm`, which the installed
        QKeras does not have, becomes the `QDense` that it is in inference.

    Raises
    ------
    UserError
        If the file is missing or damaged, or holds a layer, a quantizer or an argument that is not
        on the list of those known to be harmless (a Lambda, a user's own class, ...).
    """
    return read_model(path)[0]


def read_model(path: str | Path) -> tuple[keras.Model, list[Repair]]:
    """A model as `load_model` returns it, and the batch normalizations that were folded."""
    path = Path(path)
    try:
        graph = Graph.read(*read_file(path), str(path))
        folded = list(fold_own(graph, ["QDenseBatchnorm"]))
        return graph.build(), folded
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
