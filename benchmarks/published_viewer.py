"""Figures of the viewer: tiles beside DeepZoom's, the server's memory, and how soon the page answers."""

from collections.abc import Sequence

from tables import Measured, Table, lines, rows, words

README = "benchmarks/README.md"
TILES = tuple(f"xt/viewer/{name}.py" for name in ("pyramid", "looks", "pictures", "cache", "work"))
PAGE = ("xt/viewer/page/scripts", "xt/viewer/objects.py", "xt/viewer/application.py")


def tiles(measured: Measured) -> Sequence[Sequence[str]]:
    return [
        [
            row["slide"],
            f"{row['tiles']:,}",
            f"{row['xt tiles/s, clock']:.0f}",
            f"{row['xt / DeepZoom, clock']:.2f}",
            f"{row['xt / DeepZoom, processor']:.2f}",
            f"{1000 * row['xt first, clock s']:,.0f} ms",
            f"{row['first: xt / DeepZoom, clock']:.2f}",
        ]
        for row in measured.rows
    ]


def memory(measured: Measured) -> str:
    found = measured.content["memory"]
    half, last = (found[f"after {part * found['tiles'] // 10}"] for part in (5, 10))
    return (
        f"Memory of a server that sends {found['tiles']:,} tiles of 29,000 x 25,000 pixels, each another one, to four "
        f"clients: {half:.0f} MB after half of them, {last:.0f} MB after all, at most {found['peak']:.0f} MB, of which "
        f"up to 128 MB are pictures that are kept ({measured.origin}; goal: below 700 MB)."
    )


TABLES = {
    "viewer-tiles": Table(
        page=README, results="viewer_tiles", code=TILES,
        write=lines(
            [
                "slide", "tiles", "a second", "of DeepZoom's", "of its speed by processor seconds", "first tile after",
                "of DeepZoom's time",
            ],
            tiles,
        ),
    ),
    "viewer-memory": Table(page=README, results="viewer_tiles", code=TILES, write=words(memory)),
    "viewer-objects": Table(
        page=README, results="viewer_objects", code=PAGE,
        write=rows(
            {
                "zoom": lambda row: f"{row['zoom']} of {row['of']}",
                "a move, median": lambda row: f"{row['pan, median ms']:.0f} ms",
                "95th percentile": lambda row: f"{row['pan, 95th percentile ms']:.0f} ms",
                "a turn of the wheel, median": lambda row: f"{row['zoom, median ms']:.0f} ms",
                "its 95th percentile": lambda row: f"{row['zoom, 95th percentile ms']:.0f} ms",
                "until all pictures are there": lambda row: f"{row['all pictures, median ms']:.0f} ms",
            }
        ),
    ),
}  # fmt: skip
