"""TensorFlow as we set it."""

from __future__ import annotations

import platform
import resource

import pytest
from tensorflow.python.util import _pywrap_util_port

from l1kd.core.errors import UserError
from l1kd.networks.tensorflow_setup import check_memory, prepare_tensorflow


@pytest.mark.skipif(platform.machine() != "x86_64", reason="oneDNN is asked for on x86-64 only")
def test_convolutions_are_onednn_s() -> None:
    prepare_tensorflow(1)
    assert _pywrap_util_port.IsMklEnabled()


def test_too_little_memory_is_one_line_before_tensorflow_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for limit in (resource.RLIM_INFINITY, 1900 << 20):
        monkeypatch.setattr(resource, "getrlimit", lambda kind, limit=limit: (limit, limit))
        check_memory()
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1 << 30, -1))
    with pytest.raises(UserError, match=r"1024 MiB of memory .*TensorFlow needs 1900"):
        check_memory()
