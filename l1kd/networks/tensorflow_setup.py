"""TensorFlow as every stage needs it: quiet, deterministic, on a stated number of threads."""

from __future__ import annotations

import logging
import os

logger = logging.getLogger(__name__)


def prepare_tensorflow(threads: int) -> None:
    """Set threads (before the first computation only) and determinism, alike in all stages."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        logger.info("TensorFlow runs already; its number of threads stays as it is")
    tf.config.experimental.enable_op_determinism()
