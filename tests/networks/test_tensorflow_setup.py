"""TensorFlow as we set it."""

from __future__ import annotations

import platform

import pytest
from tensorflow.python.util import _pywrap_util_port

import l1kd.networks.tensorflow_setup


@pytest.mark.skipif(platform.machine() != "x86_64", reason="oneDNN is asked for on x86-64 only")
def test_convolutions_are_onednn_s() -> None:
    l1kd.networks.tensorflow_setup.prepare_tensorflow(1)
    assert _pywrap_util_port.IsMklEnabled()
