"""Makes the image of the demo's first act: the DAPI channel of a fluorescence section, with its levels.

    python scripts/make_demo_section.py section.ome.tif

The pixels of every level stay as they are; each row's are stored as differences, which takes a third less room.
"""

import argparse
from pathlib import Path
from typing import Any

import tifffile

from xt.demo.digits import ASSETS
from xt.images import open_image


def write_channel(source: Path, channel: str, destination: Path) -> None:
    """One channel of an OME-TIFF as an OME-TIFF of its own, with the same levels, resolution and name."""
    with open_image(source) as image:
        number = image.channel_names.index(channel)
        levels = [
            image.read(0, 0, *shape, level=level)[..., number]
            for level, shape in enumerate(image.level_shapes)
        ]
        assert image.microns_per_pixel is not None
        y, x = image.microns_per_pixel
    described = {
        "axes": "YX",
        "PhysicalSizeY": y, "PhysicalSizeYUnit": "µm",
        "PhysicalSizeX": x, "PhysicalSizeXUnit": "µm",
        "Channel": {"Name": [channel]},
    }  # fmt: skip
    options: dict[str, Any] = {
        "tile": (256, 256),
        "compression": "zlib",
        "compressionargs": {"level": 9},
        "predictor": True,
    }
    with tifffile.TiffWriter(destination, ome=True) as file:
        file.write(levels[0], subifds=len(levels) - 1, metadata=described, **options)
        for level in levels[1:]:
            file.write(level, subfiletype=1, **options)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="an OME-TIFF with a channel of that name")
    parser.add_argument("--channel", default="DAPI")
    parser.add_argument("--out", type=Path, default=ASSETS / "section.ome.tif")
    arguments = parser.parse_args()
    write_channel(arguments.source, arguments.channel, arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
