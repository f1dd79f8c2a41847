"""TensorFlow as every stage needs it: quiet, deterministic, on a stated number of threads."""

from __future__ import annotations

import logging
import os
import resource

from l1kd.core.errors import UserError

logger = logging.getLogger(__name__)


_LEAST_MIB = 1900  # with less, TensorFlow 2.15 ends the process, or in hundreds of lines


def check_memory() -> None:
    """Refuse a limit on memory that TensorFlow cannot be loaded under."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit >> 20 < _LEAST_MIB:
        raise UserError(
            f"a process here may have {limit >> 20} MiB of memory (`ulimit -v`), and TensorFlow "
            f"needs {_LEAST_MIB}; raise the limit, or use another machine"
        )


def prepare_tensorflow(threads: int) -> None:
    """Set threads (before the first computation only) and determinism, alike in all stages."""
    check_memory()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        logger.info("TensorFlow runs already; its number of threads stays as it is")
    tf.config.experimental.enable_op_determinism()
