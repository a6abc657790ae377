"""The heap that all threads share, counted by glibc itself."""

import os
import platform
import subprocess
import sys

import pytest

ARENAS = """
import ctypes, sys, threading
from captioning.runtime.memory import share_one_heap

if sys.argv[1:] == ["shared"]:
    share_one_heap()
libc, meet = ctypes.CDLL(None), threading.Barrier(5)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def work():
    found = libc.malloc(ctypes.c_size_t(10_000))
    meet.wait()
    libc.free(found)

threads = [threading.Thread(target=work) for _ in range(4)]
for each in threads:
    each.start()
meet.wait()
libc.fopen.restype = ctypes.c_void_p
report = libc.fopen(b"/dev/stdout", b"w")
libc.malloc_info(0, ctypes.c_void_p(report))
libc.fclose(ctypes.c_void_p(report))
"""


def arenas(*flags, **settings):
    """How many heaps a program with four threads has."""
    own = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"} | settings
    done = subprocess.run([sys.executable, "-c", ARENAS, *flags], env=own, capture_output=True, text=True, check=True)
    return done.stdout.count("<heap nr=")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no glibc")
def test_threads_share_one_heap_unless_the_environment_says_how_many():
    assert arenas() > 1
    assert arenas("shared") == 1
    assert arenas("shared", MALLOC_ARENA_MAX="3") == 3
