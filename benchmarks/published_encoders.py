"""The tables of docs/encoders.md: what region encoders take, and what training a part of one takes."""

from tables import Measured, Row, Table, lines, rows, words

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
    lora, plan, frozen = found["lora"], found["plan"], found["frozen"]
    return (
        f"One step of `{lora['encoder']}` with LoRA of rank 8 on {lora['image']:,} x {lora['image']:,} pixels: "
        f"{lora['peak_gb']:.2f} GB of process memory, {lora['cpu_s']:.0f} processor seconds; "
        f"{100 * lora['trained_share']:.2f} % of the weights learn. `xt plan` says "
        f"{plan['2,048 GB']:.2f} GB for it, {plan['8,192 GB']:.2f} GB for 8,192 x 8,192, and {plan['slide GB']:.2f} GB "
        f"for a slide of 100,000 x 80,000 of which a fifth is tissue. A frozen `{frozen['encoder']}` on "
        f"{frozen['image']:,} x {frozen['image']:,}: {frozen['median_ratio']:.3f} times its bare forward passes, "
        f"median of five rounds by turns ({measured.origin})."
    )


def nuclei(measured: Measured) -> list[list[str]]:
    """A line for each network: every seed's figures."""
    table = []
    for model in dict.fromkeys(row["model"] for row in measured.rows):
        found = [row for row in measured.rows if row["model"] == model]
        shown = [
            ", ".join(f"{row[key]:.{digits}f}" for row in found)
            for key, digits in (("dice", 3), ("mean_dice", 3), ("steps", 0))
        ]
        table.append([model, *shown])
    return table


def pooling(measured: Measured) -> str:
    """Of each task both ways, over seeds."""
    tasks = dict.fromkeys(row["task"] for row in measured.rows)
    parts = []
    for task in tasks:
        of_task = [row for row in measured.rows if row["task"] == task]
        shown = []
        for way in ("mean", "max"):
            right = [row["accuracy"] for row in of_task if row["pooling"] == way]
            shown.append(f"{way} {sum(right) / len(right):.3f} ({min(right):.3f} to {max(right):.3f})")
        parts.append(f"{task}: {', '.join(shown)}")
    seeds = len({row["seed"] for row in measured.rows})
    return (
        f"Accuracy over {seeds} seeds, lowest to highest in brackets: {'; '.join(parts)} ({measured.origin})."
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
    "encoders_nuclei": Table(
        page=PAGE,
        results="encoders_nuclei",
        code=(*CODE, "xt/heads", "xt/model/dense.py"),
        write=lines(["", "Dice of all pixels, by seed", "mean Dice of the images", "steps"], nuclei),
    ),
    "pooling": Table(page=PAGE, results="pooling", code=CODE, write=words(pooling)),
}
