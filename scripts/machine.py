"""The processor that figures were measured on. Imported by the scripts beside it."""

import pathlib
import platform

EXTENSIONS = ("avx2", "avx512f", "avx512_bf16", "amx_tile")  # those that decide how fast matrices are multiplied


def processor() -> tuple[str, list[str]]:
    """Its name, and which of EXTENSIONS it has."""
    name, flags = platform.processor() or platform.machine(), set()
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() == "flags":
                flags = set(value.split())
    except OSError:
        pass
    return name, [extension for extension in EXTENSIONS if extension in flags]
