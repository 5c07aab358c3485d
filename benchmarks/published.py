"""Which tables and figures the pages show, and from which results: what `tables.py` writes."""

from tables import Measured, Table, rows, text

from xt.demo.text import acts_text, contest_text, giant_text, key_text

DEMO = ("xt/demo",)
STREAMED = ("xt/streaming.py", "xt/replay.py", "xt/reader.py", "xt/region_encoders.py")


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
        f"{found['interval']}), at least 0.8 on {found['at_least_0.8']} of them"
        for found in measured.content["summary"]
    ]
    chance = measured.content["summary"][0]["chance"]
    return f"{'; '.join(lines)}; chance is {chance:.2f} ({measured.origin})."


TABLES: dict[str, Table] = {
    "demo": Table(page="README.md", results="demo", code=DEMO, write=text(demo)),
    "giants": Table(page="README.md", results="giants", code=DEMO, write=text(giants)),
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
}
