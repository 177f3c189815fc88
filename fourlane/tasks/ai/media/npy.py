"""Vectors as numpy writes and reads them (.npy, version 1.0): float32 in rows. Pure, and without numpy."""

from __future__ import annotations

import ast
import struct
import sys
from array import array
from collections.abc import Sequence
from typing import Final

__all__ = ["read_npy", "write_npy"]

_MAGIC: Final = b"\x93NUMPY\x01\x00"
_ALIGNED: Final = 64


def write_npy(rows: Sequence[Sequence[float]]) -> bytes:
    """All rows have one length."""
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({len(rows)}, {len(rows[0]) if rows else 0}), }}"
    padding = -(len(_MAGIC) + 2 + len(head) + 1) % _ALIGNED
    told = head.encode() + b" " * padding + b"\n"
    return _MAGIC + struct.pack("<H", len(told)) + told + b"".join(_bytes(row) for row in rows)


def read_npy(data: bytes) -> list[list[float]]:
    """Of what write_npy wrote. Raises ValueError."""
    if not data.startswith(_MAGIC):
        raise ValueError("this is no file of ours")
    start = len(_MAGIC) + 2
    end = start + int.from_bytes(data[len(_MAGIC) : start], "little")
    count, width = ast.literal_eval(data[start:end].decode())["shape"]
    values = array("f", data[end:])
    if sys.byteorder == "big":
        values.byteswap()
    return [values[row * width : (row + 1) * width].tolist() for row in range(count)]


def _bytes(row: Sequence[float]) -> bytes:
    values = array("f", row)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()
