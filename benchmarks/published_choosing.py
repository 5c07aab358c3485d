"""The tables of docs/choosing_regions.md: ways to choose regions, and what a scorer learns from."""

from collections.abc import Sequence

from tables import Measured, Table, lines, rows

PAGE = "docs/choosing_regions.md"
CODE = ("xt/model/by_model.py", "xt/model/worth.py", "xt/regions/by_content.py")


def ways(measured: Measured) -> Sequence[Sequence[str]]:
    return [
        [
            f"{row['way']} ({measured.content['images']} images)",
            f"{100 * row['accuracy']:.1f} %",
            row["95 % interval"],
            f"{100 * row['share of regions']:.1f} %",
            f"{row['processor-s an image']:.2f}",
            f"{100 * row['differ from all']:.1f} %",
            f"{100 * row['largest digit seen finely']:.1f} %",
        ]
        for row in measured.rows
    ]


WAYS = lines(
    [
        "way",
        "accuracy",
        "95 % interval",
        "regions",
        "processor-seconds an image",
        "other answers than all",
        "largest digit seen finely",
    ],
    ways,
)
TABLES = {
    "choosing": Table(page=PAGE, results="choosing", code=CODE, write=WAYS),
    "choosing-seed-1": Table(page=PAGE, results="choosing_seed_1", code=CODE, write=WAYS),
    "choosing-bias": Table(
        page=PAGE,
        results="choosing_bias",
        code=CODE[:2],
        write=rows(
            {
                "estimate": "estimate",
                "rank correlation with the gain": lambda row: f"{row['rank correlation']:.2f}",
                "best four found": lambda row: f"{100 * row['best found']:.0f} %",
            }
        ),
    ),
}
