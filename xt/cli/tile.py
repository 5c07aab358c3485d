"""`xt tile IN OUT.tif`: any image as a tiled, compressed pyramid."""

import argparse
import os

from xt.cli.progress import ProgressBars

EXAMPLES = (
    "xt tile slides/one.tif one.tiled.tif",
    "xt tile slides/one.tif one.small.tif --compression jpeg --quality 85",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="IN", help="any image that xt opens")
    parser.add_argument("destination", metavar="OUT.tif", help="appears only when it is whole")
    parser.add_argument(
        "--compression", choices=["deflate", "jpeg"], default="deflate",
        help="deflate loses nothing; jpeg is smaller, for 8-bit photographs and slides (default: deflate)",
    )  # fmt: skip
    parser.add_argument(
        "--quality", type=int, default=90, metavar="1-100", help="of jpeg (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    import warnings

    from xt.errors import SlowImageWarning
    from xt.images import conversion
    from xt.output import remove_leftovers_of

    # As large as the image, and hidden.
    remove_leftovers_of(arguments.destination)
    with ProgressBars() as bars, warnings.catch_warnings():
        # The advice in that warning is what is being done.
        warnings.simplefilter("ignore", SlowImageWarning)
        bar = bars.add(os.path.basename(arguments.destination), total=100, unit="%")
        written = conversion.tile(
            arguments.source,
            arguments.destination,
            lambda fraction: bar.update(int(100 * fraction), 100),
            compression=arguments.compression,
            quality=arguments.quality,
        )
    print(f"{written}: {written.stat().st_size / 1e6:,.1f} MB")
    return 0
