"""Which tables and figures the pages show, and from which results: what `tables.py` writes."""

from typing import Any

import published_choosing
import published_choosing_places
import published_cohorts
import published_context
import published_encoders
import published_export
import published_gpu
import published_tasks
import published_viewer
import scale
from tables import Measured, Table, rows, text, words

from xt.demo.text import acts_text, contest_text, giant_text, key_text

DEMO = ("xt/demo",)
STREAMED = published_gpu.STREAMED
PLANNED = (*STREAMED, "xt/planning", "xt/streaming/footprint.py")
MASKS = (*STREAMED, "xt/model/dense.py", "xt/prediction")


def demo(measured: Measured) -> str:
    """What the demo printed, but for its first act."""
    printed = measured.content["printed"]
    parts = (
        contest_text(printed),
        key_text(printed["key"]),
        giant_text(printed["giant"]),
        acts_text(printed),
    )
    lines = "\n\n".join(parts)
    return f"`make demo` printed ({measured.origin}):\n```\n{lines}\n```"


def giants(measured: Measured) -> str:
    """A line for each context encoder."""
    lines = [
        f"`{found['context']}`: F1 {found['mean_f1']:.2f} on average over {found['images']} images (95 % interval "
        f"{found['interval']}), least {found['least_f1']:.2f}, at least 0.8 on {found['at_least_0.8']} of them"
        for found in measured.content["summary"]
    ]
    chance = measured.content["summary"][0]["chance"]
    return f"{'; '.join(lines)}; chance is {chance:.2f} ({measured.origin})."


def memory(measured: Measured) -> str:
    """Of a training step by the image's side."""
    steps = {(row["context"], row["side"]): row["step_bytes"] / 2**30 for row in measured.rows}
    (small,) = (row for row in measured.rows if (row["context"], row["side"]) == ("none", 2048))
    (large,) = (row for row in measured.rows if (row["context"], row["side"]) == ("none", 8192))
    growth = (large["step_bytes"] - small["step_bytes"]) / (large["token_bytes"] - small["token_bytes"])
    return (
        "A training step of convnext_atto (256-pixel regions, region batch 4, context `none`, float32) takes "
        f"{steps['none', 2048]:.2f} GiB on an image of 2,048 pixels a side and {steps['none', 8192]:.2f} GiB "
        "on one of "
        f"8,192; the growth is {growth:.1f} times the bytes of the added tokens. The same backbone on the "
        "whole image takes "
        f"{steps['whole', 2048]:.1f} GiB at 2,048 (`benchmarks/memory.py`, {measured.origin})."
    )


def speed(measured: Measured) -> str:
    inference, training = (sorted(row[key] for row in measured.rows) for key in ("inference", "recompute"))
    return (
        f"Inference from a JPEG-compressed TIFF runs at {inference[0]:.2f} to {inference[-1]:.2f} of the bare "
        "timm backbone "
        f"on pixels in memory, training at {training[0]:.2f} to {training[-1]:.2f} of its limit "
        f"({measured.origin}; [all "
        "results](benchmarks/README.md))."
    )


def largest(measured: Measured) -> str:
    (row,) = (row for row in measured.rows if row["memory_GB"] == 40)
    return (
        f"The largest square image that `xt plan` fits into 40 GB with a Swin-V2-T has {row['xt']:,} pixels a "
        "side, without "
        f"regions {row['whole image']:,} ({measured.origin})."
    )


def goal(measured: Measured) -> str:
    (row,) = (row for row in measured.rows if row["point"] == "classification, training")
    if "device_MB" not in row:
        return f"On a GPU, 29,000 x 25,000 pixels: out of memory ({measured.origin})."
    return (
        f"On a GPU a training step of a Swin-V2-T on all of 29,000 x 25,000 pixels, bf16, takes "
        f"{row['device_MB'] / 1e3:.2f} GB and {row['seconds']:.0f} s ({measured.origin}; goal: under 8 GB)."
    )


def _benchmark(results: str, code: tuple[str, ...], key: str | None, columns: dict[str, Any]) -> Table:
    return Table(page="benchmarks/README.md", results=results, code=code, key=key, write=rows(columns))


TABLES: dict[str, Table] = {
    "demo": Table(page="README.md", results="demo", code=DEMO, write=text(demo)),
    "giants": Table(page="README.md", results="giants", code=DEMO, write=words(giants)),
    "streaming": Table(
        page="benchmarks/README.md",
        results="streaming",
        code=STREAMED,
        write=rows(
            {
                "": "encoder",
                "inference": "inference",
                "training, recomputed, of its limit T/(T+F)": "recompute",
                'training, `keep="all"`': "keep",
            }
        ),
    ),
    "memory-words": Table(page="README.md", results="memory", code=STREAMED, write=words(memory)),
    "speed-words": Table(page="README.md", results="streaming", code=STREAMED, write=words(speed)),
    "largest-words": Table(page="README.md", results="largest_image", code=PLANNED, write=words(largest)),
    "gpu-words": Table(
        page="README.md",
        results="gpu-large-step",
        code=STREAMED,
        write=words(goal),
        empty="No GPU has been at hand yet: what only a GPU can show is empty ([`docs/gpu.md`](docs/gpu.md)).",
    ),
    "planning": _benchmark(
        "planning",
        PLANNED,
        None,
        {
            "configuration": lambda row: (
                f"{row['encoder']}, {row['context']}, {row['side']:,} px, region batch {row['region_batch']}, "
                + (row["step"] if row["step"] == "inference" else f"training, keep={row['step']}")
            ),
            "memory": "memory_ratio",
            "time": "time_ratio",
        },
    ),
    "memory": _benchmark(
        "memory_transformer_xl",
        STREAMED,
        "side",
        {
            "side": "side",
            "tokens and gradients": lambda row: f"{2 * row['token_bytes'] / 1e6:,.0f} MB",
            "above one region batch": lambda row: f"{row['above one region batch'] / 1e6:,.0f} MB",
            "ratio": "/ (tokens + gradients)",
        },
    ),
    "predict-memory": _benchmark(
        "predict_memory",
        MASKS,
        None,
        {
            "side": "side",
            "context": "context",
            "process": lambda row: f"{row['peak_MB']:,.0f} MB",
            "of it tokens": lambda row: f"{row['token_MB']:,.0f} MB",
            "the rest, of 4,096's": "without tokens, of the first",
        },
    ),
    "largest": _benchmark(
        "largest_image",
        PLANNED,
        None,
        {
            "memory": lambda row: f"{row['memory_GB']:g} GB",
            "xt": "xt",
            "whole image at once": "whole image",
            "pixels, times": lambda row: f"{row['pixels, times']:,.0f}",
        },
    ),
    "large-step": _benchmark(
        "large_step",
        PLANNED,
        None,
        {
            "image": "image",
            "regions": "regions",
            "peak": lambda row: f"{row['peak_MB'] / 1e3:.2f} GB" if row["peak_MB"] else "not run",
            "planned": lambda row: f"{row['planned_MB'] / 1e3:.2f} GB" if row["planned_MB"] else "",
        },
    ),
    "reading": _benchmark(
        "reading",
        ("xt/regions/reader.py", "xt/images"),
        None,
        {
            "file": "file",
            "rasterio": lambda row: f"{row['library_regions_per_s']:,.0f}",
            "xt": lambda row: f"{row['ours_regions_per_s']:,.0f}",
            "ratio": "ours / library",
        },
    ),
    "fast-paths": _benchmark(
        "fast_paths",
        ("xt/region_encoders/timm.py",),
        None,
        {"": "encoder"}
        | {
            heading: lambda row, way=way: f"{row[f'forward {way}']:.2f} / {row[f'training {way}']:.2f}"
            for heading, way in (
                ("channels last", "channels_last"),
                ("`torch.compile`", "compile"),
                ("bfloat16", "bf16"),
            )
        },
    ),
    "region-parallel": _benchmark(
        "region_parallel",
        ("xt/streaming/parallel.py", *STREAMED),
        None,
        {"processes": "processes", "regions a second": "regions per second", "times one": "speed-up"},
    ),
    "scale-stages": Table(
        page="docs/scale.md", results="stages", code=scale.CODE, write=text(scale.unit_costs)
    ),
    "scale-core": Table(
        page="docs/scale.md", results="stages", code=scale.CODE, write=words(scale.on_a_core)
    ),
    **{
        name: Table(page="docs/scale.md", results="stages", code=scale.CODE, write=scale.reckoned(write))
        for name, write in scale.SECTIONS.items()
    },
    **published_context.TABLES,
    **published_choosing.TABLES,
    **published_tasks.TABLES,
    **published_viewer.TABLES,
    **published_choosing_places.TABLES,
    **published_cohorts.TABLES,
    **published_gpu.TABLES,
    **published_encoders.TABLES,
    **published_export.TABLES,
}
