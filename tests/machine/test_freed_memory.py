"""Freed memory is kept, in a process of its own and in those that it starts."""

import subprocess
import sys

import pytest

_BLOCK = 2**26
_SCRIPT = f"""
import resource, subprocess, sys
if "keep" in sys.argv:
    from xt.machine.freed_memory import keep_freed_memory
    keep_freed_memory()
if "child" in sys.argv:
    sys.exit(subprocess.run([sys.executable, __file__, "told by its parent"]).returncode)
bytearray({_BLOCK})
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    bytearray({_BLOCK})
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(tmp_path, *arguments: str) -> int:
    """How many pages were mapped anew for four blocks that had room in what was freed."""
    script = tmp_path / "blocks.py"
    script.write_text(_SCRIPT)
    command = [sys.executable, str(script), *arguments]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
@pytest.mark.parametrize("arguments", [("keep",), ("keep", "child")])
def test_blocks_are_used_again(tmp_path, arguments):
    pages = _BLOCK // 4096
    assert faults(tmp_path) > pages
    assert faults(tmp_path, *arguments) < pages // 16
