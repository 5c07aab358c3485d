"""Figures of whole tasks, and of readers and machines: from results whose scripts need data or hours."""

from collections.abc import Sequence
from typing import Any

from tables import Measured, Table, lines, rows, words

README = "benchmarks/README.md"
ENCODED = ("xt/streaming/map.py", "xt/streaming/replay.py", "xt/regions/reader.py", "xt/region_encoders")
PREDICTED = (*ENCODED, "xt/heads", "xt/model/dense.py", "xt/prediction")


def xview3(measured: Measured) -> str:
    found = measured.content
    peak = max(row["peak GB"] for row in measured.rows)
    return (
        f"A made scene of {found['height']:,} x {found['width']:,} pixels in the challenge's layout through "
        f"`xt predict`: {peak:.1f} GB, {found['predict_cpu_seconds']:.0f} seconds of one core, score "
        f"{found['score']['aggregate']:.2f} ({measured.origin})."
    )


def nuclei(measured: Measured) -> str:
    (row,) = measured.rows
    height, width = measured.content["mosaic"]
    return (
        f"Microscopy images stitched to {height:,} x {width:,} pixels, `xt train` on three quarters for "
        f"{row['training_s']} seconds of one busy core, `xt predict` on the last quarter, which is made of images that "
        f"occur nowhere else: Dice of the written file {row['dice']:.3f}, peak memory {row['peak_gib']:.1f} GiB, "
        f"context `{row['context']}` (`benchmarks/nuclei.py`, {measured.origin})."
    )


def trees(measured: Measured) -> str:
    found = measured.content
    (row,) = (row for row in measured.rows if row["score"] == 0.5)
    return (
        f"Trained on 292 crowns of three airborne pictures for {found['cpu_s_with_test']} seconds of a core "
        f"({found['training_s']} by the clock, as the machine was busy), then a GeoTIFF through `xt predict`, and its "
        f"GeoJSON against the {row['crowns']} crowns of the half that was held out: AP at IoU 0.5 is "
        f"{row['ap50']:.2f}; from a score of 0.5 on, {row['found']} boxes, {row['matched']} of which match a crown, "
        f"and {row['matched_if_moved'] or 'none'} if the crowns are moved by {found['moved_by_metres']:g} metres "
        f"({measured.origin}). The polygons' corners, turned back to pixels by rasterio, are the boxes of the CSV. One "
        f"run; {row['crowns']} crowns are few."
    )


def photographs(measured: Measured) -> str:
    (row,) = measured.rows
    return (
        "The recipe Swin-T Hyper 512/256 from JPEG files to updated weights, on one core: "
        f"{row['xt / regions (s)']:.3f} of the regions per second of timm's backbone and classifier on the same "
        f"regions, {row['xt / whole (s)']:.3f} of those of the backbone on the whole photograph "
        f"({measured.origin}). Goal: 0.95."
    )


def polygon_memory(measured: Measured) -> str:
    small, large = measured.content["memory"]
    return (
        f"Peak of a process that draws a row of regions through {small['side']:,} x {small['side']:,} pixels: "
        f"{small['peak_MB']:,.0f} MB, nearly all of it the making of the polygons; through {large['side']:,} x "
        f"{large['side']:,} pixels, with as many polygons: {large['peak_MB']:,.0f} MB ({measured.origin}). Drawing "
        f"itself raised it by {small['by_drawing_MB']:,.0f} and {large['by_drawing_MB']:,.0f} MB."
    )


def blood_cells_memory(measured: Measured) -> list[Sequence[str]]:
    return [
        [f"{row['side']:,}", f"{row['boxes']:,}", f"{row['peak_mib']:,} MiB"]
        for row in measured.content["memory"]
    ]


def _table(results: str, code: tuple[str, ...], columns: dict[str, Any], page: str = README) -> Table:
    return Table(page=page, results=results, code=code, write=rows(columns))


def _words(results: str, code: tuple[str, ...], write: Any, page: str = README) -> Table:
    return Table(page=page, results=results, code=code, write=words(write))


TABLES: dict[str, Table] = {
    "xview3": _words("xview3", (*PREDICTED, "xt/metrics/xview3.py"), xview3),
    "nuclei": _words("nuclei", PREDICTED, nuclei),
    "nuclei-words": _words("nuclei", PREDICTED, nuclei, "README.md"),
    "neon-trees": _words("neon_trees", PREDICTED, trees),
    "photographs": _words("inaturalist", (*ENCODED, "xt/data/photos.py", "xt/training"), photographs),
    "photographs-speed": _table(
        "inaturalist",
        (*ENCODED, "xt/data/photos.py", "xt/training"),
        {
            "regions a second:": lambda row: "in one run",
            "the recipe": "xt: regions / s",
            "timm on the same regions": "regions: regions / s",
            "recipe over it": "xt / regions (s)",
            "timm on each photograph whole": "whole: regions / s",
            "recipe over that": "xt / whole (s)",
        },
        "docs/inaturalist.md",
    ),
    "detection-backbone": _table(
        "detection_backbone",
        (*ENCODED, "xt/model/detection_backbone.py"),
        {
            "image": "image",
            "backbone": "backbone",
            "memory, GB": lambda row: f"{row['memory, GB']:.2f}",
            "seconds of one core": lambda row: f"{row['seconds of one core']:.1f}",
        },
        "docs/detection_backbone.md",
    ),
    "blood-cells": _table(
        "bccd",
        PREDICTED,
        {
            "": "image", "`ap`": "ap", "`ap50`": "ap50", "`ap75`": "ap75", "platelets": "ap(Platelets)",
            "red": "ap(RBC)", "white": "ap(WBC)",
        },
        "docs/detection.md",
    ),
    "blood-cells-memory": Table(
        page="docs/detection.md",
        results="bccd",
        code=PREDICTED,
        write=lines(
            ("square of the large image", "boxes of at least 0.25", "peak of the process"), blood_cells_memory
        ),
    ),
    "busy-threads": _table(
        "busy_threads",
        ("benchmarks/busy_threads.py",),
        {
            "": "way", "neighbours": "neighbours", "processor-seconds": "processor_seconds", "seconds": "seconds",
            "rounds": "rounds",
        },
    ),
    "slide-readers": _table(
        "slide_readers",
        ("benchmarks/slide_readers.py", "xt/images/slide.py"),
        {
            "": "file", "threads": "threads", "fastslide / OpenSlide": "fastslide / openslide",
            "largest difference of 255": "largest difference",
            "pixels that differ": lambda row: f"{row['pixels that differ']:.0%}",
            "memory, OpenSlide": lambda row: f"{row['openslide, MB']:.0f} MB",
            "fastslide": lambda row: f"{row['fastslide, MB']:.0f} MB",
        },
    ),
    "polygon-masks": _table(
        "polygon_masks",
        ("xt/labels/polygon_targets.py", "xt/images/polygons.py"),
        {
            "encoder": "encoder", "polygons in a region": lambda row: f"{row['in_a_region']:.0f}",
            "drawn over forward": "draw_over_forward", "drawn over forward and backward": "draw_over_step",
        },
    ),
    "polygon-memory": _words(
        "polygon_masks", ("xt/labels/polygon_targets.py", "xt/images/polygons.py"), polygon_memory
    ),
    "check": _table(
        "check",
        ("xt/checking",),
        {"": "what", "seconds": lambda row: f"{row['seconds']:.0f}",
         "of processors": lambda row: f"{row['processor_seconds']:.0f}"},
    ),
}  # fmt: skip
