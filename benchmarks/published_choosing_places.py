"""Figures of chosen regions where answers are about every place."""

from typing import Any

from published_tasks import PREDICTED
from tables import Measured, Row, Table, rows, words

PAGE = "docs/choosing_regions.md"
CODE = (*PREDICTED, "xt/regions")


def _percent(name: str, digits: int = 1) -> Any:
    return lambda row: f"{row[name]:.{digits}%}" if name in row else ""


def _dice(row: Row) -> str:
    return f"{row['dice']:.3f}" if "dice" in row else ""


def giant(measured: Measured) -> str:
    """Both ways to look, in words."""
    chosen, everything = measured.content["summary"]
    return (
        f"With digits and clutter in a twentieth of such an image, as on skies and seas, the same model finds what it "
        f"is to find in {chosen['share']:.1%} of the regions, chosen by content: F1 {chosen['f1']:.2f} over "
        f"{chosen['images']} images (least {chosen['least_f1']:.2f}) in {chosen['cpu_seconds']:.0f} processor-seconds "
        f"each. All regions take {everything['cpu_seconds']:.0f} ({everything['images']} image, F1 "
        f"{everything['f1']:.2f}); memory is {chosen['peak_mb']:,.0f} and {everything['peak_mb']:,.0f} MB "
        f"(`benchmarks/choosing_giant.py`, {measured.origin})."
    )


GIANT = (*CODE, "xt/demo", "benchmarks/choosing_giant.py")
OF_MASKS = (*CODE, *(f"benchmarks/{name}.py" for name in ("choosing_masks", "coarse_floor", "slide_labels")))
MASKS: dict[str, Any] = {
    "image": "image",
    "start": "seed",
    "looked at": "looked_at",
    "regions": _percent("share", 0),
    "pixels that differ": _percent("differ", 2),
    "in the best regions": _percent("best_choice", 2),
    "fine answers shrunk": _percent("shrunk", 2),
    "of the class": _percent("nuclei"),
    "Dice against all": lambda row: f"{row['dice_against_all']:.3f}",
    "Dice": _dice,
    "processor-seconds": lambda row: f"{row['cpu_seconds']:.1f}",
}
TABLES: dict[str, Table] = {
    "choosing-giant-words": Table(page="README.md", results="choosing_giant", code=GIANT, write=words(giant)),
    **{
        f"choosing-{what}": Table(page=PAGE, results=f"choosing_{what}", code=OF_MASKS, write=rows(MASKS))
        for what in ("masks", "tissue", "stained")
    },
    "choosing-giant": Table(
        page=PAGE,
        results="choosing_giant",
        code=GIANT,
        write=rows(
            {
                "looked at": "looked_at",
                "image": "seed",
                "F1": lambda row: f"{row['f1']:.2f}",
                "chance": lambda row: f"{row['chance']:.2f}",
                "regions": lambda row: f"{row['regions']:,}",
                "processor-seconds": lambda row: f"{row['cpu_seconds']:.0f}",
                "peak memory, MB": lambda row: f"{row['peak_bytes'] / 1e6:.0f}",
            }
        ),
    ),
}
