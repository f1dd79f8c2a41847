"""IDX, the format of MNIST, plain or gzipped, verified by the checksum of its payload."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from l1kd.errors import UserError

__all__ = ["md5", "parse", "payload"]

_GZIP_MAGIC = b"\x1f\x8b"
_MAX_PAYLOAD = 1 << 27  # the largest known file has 47 MB


def payload(path: Path) -> bytes:
    """The bytes of a file, decompressed if they are gzipped, whatever the file's name.

    Raises
    ------
    UserError
        If the file cannot be read, is truncated or damaged gzip, or far too large.
    """
    try:
        if path.stat().st_size > _MAX_PAYLOAD:
            raise UserError(f"{path}: too large for an IDX file; fetch it again")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if not data.startswith(_GZIP_MAGIC):
        return data
    # Bounded: a few bytes of gzip can claim gigabytes.
    decoder = zlib.decompressobj(wbits=31)
    try:
        raw = decoder.decompress(data, _MAX_PAYLOAD)
    except zlib.error as error:
        raise UserError(f"{path}: damaged gzip ({error}); fetch it again") from error
    if decoder.unconsumed_tail:
        raise UserError(f"{path}: too large for an IDX file; fetch it again")
    if not decoder.eof:
        raise UserError(f"{path}: truncated gzip; fetch it again")
    return raw


def parse(data: bytes, name: str, axes: int) -> NDArray[np.uint8]:
    """An IDX payload of bytes as an array with `axes` axes.

    Raises
    ------
    UserError
        If the magic number or the number of bytes is not what such a file has.
    """
    header = 4 + 4 * axes
    if len(data) < header or data[:4] != bytes([0, 0, 8, axes]):
        raise UserError(
            f"{name}: not an IDX file of bytes with {axes} axes "
            f"(it starts with {data[:4].hex() or 'nothing'}, {bytes([0, 0, 8, axes]).hex()} is "
            "expected); fetch it again"
        )
    shape = tuple(np.frombuffer(data[4:header], ">u4").tolist())
    count = 1
    for length in shape:
        count *= length
    if len(data) - header != count:
        raise UserError(
            f"{name}: {len(data) - header} bytes where its header announces {count} "
            f"(shape {shape}): truncated or damaged; fetch it again"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def md5(data: bytes) -> str:
    """The checksum by which the canonical files are known."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
