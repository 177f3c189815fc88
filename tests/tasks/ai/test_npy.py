"""Vectors in files, as numpy has them."""

from __future__ import annotations

import io

import pytest

from fourlane.tasks.ai.media.npy import read_npy, write_npy

ROWS = [[0.5, -1.25, 3.0], [0.0, 1e-3, 2.0**20]]


def test_they_come_back() -> None:
    assert read_npy(write_npy(ROWS)) == [pytest.approx(row) for row in ROWS]
    assert read_npy(write_npy([])) == []


def test_numpy_reads_them() -> None:
    numpy = pytest.importorskip("numpy")
    read = numpy.load(io.BytesIO(write_npy(ROWS)))
    assert (read.shape, str(read.dtype)) == ((2, 3), "float32")
    assert read.tolist() == read_npy(write_npy(ROWS))


def test_another_file_is_refused() -> None:
    with pytest.raises(ValueError, match="no file of ours"):
        read_npy(b"PK\3\4")
