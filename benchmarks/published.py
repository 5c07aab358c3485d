"""Which tables and figures the pages show, and from which results: what `tables.py` writes."""

from tables import Table, rows

STREAMED = ("xt/streaming.py", "xt/replay.py", "xt/reader.py", "xt/region_encoders.py")

TABLES: dict[str, Table] = {
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
