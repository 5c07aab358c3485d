"""A virtual dataset of a file's channels in floats that are NaN where the file says that nothing is there.

So GDAL's warp, which knows one kind of missing pixels at a time, sees them all, whatever the file calls them: masks,
alpha and nodata of each band.
"""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

from xt.images.bands import Bands


def nan_where_missing(dataset: Any, path: str, bands: Bands, working: str, overview: int | None) -> str:
    """As XML, which GDAL opens like a file.

    Args:
        dataset: of rasterio's, of the file at this overview.
        path: as GDAL takes it.
        working: "float32" or "float64".
        overview: None for the full resolution.
    """
    size = f'xSize="{dataset.width}" ySize="{dataset.height}"'
    option = (
        "" if overview is None else f'<OpenOptions><OOI key="OVERVIEW_LEVEL">{overview}</OOI></OpenOptions>'
    )
    rectangles = f'<SrcRect xOff="0" yOff="0" {size}/><DstRect xOff="0" yOff="0" {size}/>'

    def source(
        name: str, band: int, kind: str = "SimpleSource", rule: str = "", options: str = option
    ) -> str:
        return (
            f'<{kind}><SourceFilename relativeToVRT="0">{escape(name)}</SourceFilename>{options}'
            f"<SourceBand>{band}</SourceBand>{rectangles}{rule}</{kind}>"
        )

    def masked_by_alpha(band: int) -> str:
        # GDAL itself takes alpha for a mask only in files of two or four bands.
        assert bands.alpha is not None
        own_type = _TYPES[dataset.dtypes[band - 1]]
        return (
            f"<VRTDataset {_size(dataset)}>"
            f'<VRTRasterBand dataType="{own_type}" band="1">{source(path, band)}</VRTRasterBand>'
            f'<MaskBand><VRTRasterBand dataType="Byte">{source(path, bands.alpha)}</VRTRasterBand></MaskBand>'
            "</VRTDataset>"
        )

    described = []
    for channel, (band, nodata) in enumerate(zip(bands.channels, bands.nodata, strict=True)):
        name, number, options = path, band, option
        rule = "" if nodata is None else f"<NODATA>{nodata!r}</NODATA>"
        if channel in bands.by_alpha:
            name, number, options = masked_by_alpha(band), 1, ""
        if channel in bands.by_alpha or channel in bands.masked:
            rule += "<UseMaskBand>true</UseMaskBand>"
        described.append(
            f'<VRTRasterBand dataType="{working.capitalize()}" band="{channel + 1}"><NoDataValue>nan</NoDataValue>'
            f"{source(name, number, 'ComplexSource', rule, options)}</VRTRasterBand>"
        )
    return f"<VRTDataset {_size(dataset)}>{_place(dataset)}{''.join(described)}</VRTDataset>"


_TYPES = {
    "uint8": "Byte", "int8": "Int8", "uint16": "UInt16", "int16": "Int16", "uint32": "UInt32", "int32": "Int32",
    "uint64": "UInt64", "int64": "Int64", "float32": "Float32", "float64": "Float64",
}  # fmt: skip


def _size(dataset: Any) -> str:
    return f'rasterXSize="{dataset.width}" rasterYSize="{dataset.height}"'


def _place(dataset: Any) -> str:
    """Where the file lies, by coordinates or ground control points."""
    parts = []
    if dataset.crs:
        parts.append(f"<SRS>{escape(dataset.crs.to_wkt())}</SRS>")
    if not dataset.transform.is_identity:
        parts.append(f"<GeoTransform>{', '.join(map(repr, dataset.transform.to_gdal()))}</GeoTransform>")
    points, crs = dataset.gcps
    if points and crs:
        listed = "".join(
            f'<GCP Id="{number}" Pixel="{point.col!r}" Line="{point.row!r}" X="{point.x!r}" Y="{point.y!r}" '
            f'Z="{point.z or 0.0!r}"/>'
            for number, point in enumerate(points)
        )
        parts.append(f"<GCPList Projection={_quoted(crs.to_wkt())}>{listed}</GCPList>")
    return "".join(parts)


def _quoted(text: str) -> str:
    return '"' + escape(text, {'"': "&quot;"}) + '"'
