"""NPY files without NumPy. Imported by the scripts beside it."""

import pathlib
import struct


def write_floats(path: pathlib.Path, shape: tuple, values: list) -> None:
    """float32 `values`, row after row."""
    write(path, "<f4", shape, struct.pack(f"<{len(values)}f", *values))


def write(path: pathlib.Path, kind: str, shape: tuple, values: bytes) -> None:
    """`values` in rows, of `kind` as NumPy writes it: "<f4", "|u1"."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    header += " " * (-(10 + len(header) + 1) % 64) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + values)
