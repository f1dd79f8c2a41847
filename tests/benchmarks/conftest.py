"""Benchmarks compile what they measure; large networks need numba's compiled functions."""

import os

os.environ.pop("NUMBA_DISABLE_JIT", None)
