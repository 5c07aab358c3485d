"""Keeps what a demo measured beside the other results, with its hardware and date, for the README's table.

xt demo
python benchmarks/demo.py [--demo demo]
"""

import argparse
import json
import sys
from pathlib import Path

from common import write_results


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--demo", type=Path, default=Path("demo"), help="folder that `xt demo` wrote")
    results = parser.parse_args().demo / "results.json"
    if not results.is_file():
        print(f"demo: there is no {results}; run `xt demo` first", file=sys.stderr)
        return 2
    print(f"wrote {write_results('demo', [], printed=json.loads(results.read_text()))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
