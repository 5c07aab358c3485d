"""Runs tutorials of the site as they stand, each in a folder of its own, and takes their pictures from what they wrote.

python scripts/run_tutorials.py                 # all; minutes
python scripts/run_tutorials.py ocean mosaic
"""

import argparse
import contextlib
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def save_small(source: Path, place: Path) -> None:
    """At most 1,200 pixels wide, in few colours: it is for a page, and stays in the repository's history."""
    from PIL import Image

    with Image.open(source) as picture:
        small = picture.convert("RGB")
    small.thumbnail((1200, 1200))
    small.quantize(64).save(place, optimize=True)


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from tests.pages import DOCS, pictures_of, run_page

    pages = {path.stem: path for path in sorted((DOCS / "tutorials").glob("*.md"))}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(pages), metavar="NAME")
    for name in parser.parse_args().names:
        print(f"{name}:", flush=True)
        with tempfile.TemporaryDirectory(prefix="xt-tutorial-") as folder:
            started, used = time.perf_counter(), time.process_time()
            with contextlib.chdir(folder):
                run_page(pages[name])
            print(f"  {time.perf_counter() - started:.0f} s, {time.process_time() - used:.0f} of processors")
            for place, source in pictures_of(pages[name]).items():
                place.parent.mkdir(exist_ok=True)
                save_small(Path(folder) / source, place)
                print(f"  {place.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
