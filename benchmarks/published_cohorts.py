"""Figures of docs/cohorts.md."""

from typing import Any

from tables import Measured, Row, Table, words

PAGE = "docs/cohorts.md"
FEATURES = ("xt/data/feature_files.py", "xt/data/feature_folder.py", "xt/context_encoders", "xt/training")


def cost_of_features(measured: Measured) -> str:
    found: Any = measured.content
    (row,) = measured.rows
    minutes = " and ".join(
        f"{row[f'processor min, {count} slides']:.0f} processor-minutes of {count:,} slides"
        for count in found["planned"]
    )
    return (
        f"An epoch of {row['slides']} slides of {row['tokens a slide']:,} patches of {found['width']} numbers in half "
        f"precision (made up, in TRIDENT's layout of a chunk a patch), `{found['context']}` of width 256, batch size "
        f"{found['batch_size']}, one core of a busy machine: {row['processor s a slide']:.2f} processor-seconds a "
        f"slide ({1 / row['processor s a slide']:.2f} slides a second of a core to itself; by the clock it were "
        f"{row['slides/s']:.2f}), of which reading is {100 * row['reading / training']:.1f} %: it goes on beside "
        f"training, which never waits for it. Memory was {_mb(row, 'MB after a quarter')} after a quarter of the epoch "
        f"and at most {_mb(row, 'MB at most behind it')} behind it. So an epoch takes {minutes} "
        f"(`python benchmarks/cohort_features.py`, {measured.origin})."
    )


def _mb(row: Row, name: str) -> str:
    return f"{row[name]:,.0f} MB"


TABLES = {
    "cohort-features": Table(
        page=PAGE, results="cohort_features", code=FEATURES, write=words(cost_of_features)
    ),
}
