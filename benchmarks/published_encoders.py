"""The tables of docs/encoders.md: what region encoders take, and what training a part of one takes."""

from tables import Measured, Row, Table, rows, words

PAGE = "docs/encoders.md"
CODE = ("xt/region_encoders", "xt/streaming/map.py", "xt/streaming/replay.py", "xt/model/frozen.py")
MODES = {"forward": "forward", "frozen": "frozen", "lora": "LoRA", "all": "all trained"}


def _of(mode: str) -> object:
    def cell(row: Row) -> str:
        seconds, gigabytes = row.get(f"{mode}_s"), row.get(f"{mode}_gb")
        return "" if seconds is None else f"{seconds:.2f} s, {gigabytes:.1f} GB"

    return cell


def training(measured: Measured) -> str:
    found = {row["step"]: row for row in measured.rows}
    lora, frozen = found["lora"], found["frozen"]
    return (
        f"One step of `{lora['encoder']}` with LoRA of rank 8 on {lora['image']:,} x {lora['image']:,} pixels: "
        f"{lora['peak_gb']:.2f} GB of process memory, {lora['cpu_s']:.0f} processor seconds; "
        f"{100 * lora['trained_share']:.2f} % of the weights learn. A frozen `{frozen['encoder']}` on "
        f"{frozen['image']:,} x {frozen['image']:,}: {frozen['median_ratio']:.3f} times its bare forward passes, "
        f"median of five rounds by turns ({measured.origin})."
    )


TABLES = {
    "encoders": Table(
        page=PAGE,
        results="encoders",
        code=CODE,
        key="encoder",
        write=rows(
            {
                "encoder": lambda row: f"`{row['encoder']}`",
                "million weights": "millions",
                "region": "region",
                "tokens": "tokens",
                **{heading: _of(mode) for mode, heading in MODES.items()},
            }
        ),
    ),
    "encoders_training": Table(page=PAGE, results="encoders_training", code=CODE, write=words(training)),
}
