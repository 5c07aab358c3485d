"""A slide as Leica's scanners write it: a part of the glass, scanned at a place of it that its description gives."""

from pathlib import Path

import numpy as np
import tifffile

_NM = 500
_DESCRIPTION = """<?xml version="1.0"?>
<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01" uuid="urn:uuid:00000000-0000-0000-0000-000000000001">
 <collection name="c" uuid="urn:uuid:00000000-0000-0000-0000-000000000002" sizeX="{glass_x}" sizeY="{glass_y}">
  <image name="main" uuid="urn:uuid:00000000-0000-0000-0000-000000000003">
   <creationDate>2020-01-01T00:00:00</creationDate>
   <device model="Leica SCN400;Leica SCN" version="1.0"/>
   <pixels sizeX="256" sizeY="256"><dimension sizeX="256" sizeY="256" r="0" ifd="0"/></pixels>
   <view sizeX="{size}" sizeY="{size}" offsetX="{x}" offsetY="{y}" spacingZ="0"/>
   <scanSettings>
    <objectiveSettings><objective>20</objective></objectiveSettings>
    <illuminationSettings>
     <numericalAperture>0.4</numericalAperture><illuminationSource>brightfield</illuminationSource>
    </illuminationSettings>
   </scanSettings>
  </image>
 </collection>
</scn>"""


def write_scn(path: Path, y: int = 128, x: int = 192) -> Path:
    """256 x 256 pixels scanned at (y, x) of 512 x 640, with a red square at (100, 200) of the scanned part."""
    pixels = np.full((256, 256, 3), 240, np.uint8)
    pixels[100:120, 200:220] = (200, 0, 0)
    text = _DESCRIPTION.format(glass_x=640 * _NM, glass_y=512 * _NM, size=256 * _NM, x=x * _NM, y=y * _NM)
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        file.write(
            pixels, tile=(128, 128), photometric="rgb", description=text, metadata=None, compression="zlib"
        )
    return path
