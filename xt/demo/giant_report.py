"""The report's section on the giant image: seen from afar with what was found, and pieces at full resolution."""

from html import escape

from xt.demo.giant_scene import Giant
from xt.demo.pictures import brightened, data_uri, stretched


def render_giant(giant: Giant) -> str:
    """The section as HTML."""
    height, width, measured = giant.height, giant.width, giant.measured
    zooms = "".join(
        f'<figure><img alt="piece at {zoom.y}, {zoom.x}" src="{data_uri(brightened(zoom.pixels))}">'
        f"<figcaption>{escape(zoom.what)}: y {zoom.y:,}, x {zoom.x:,}</figcaption></figure>"
        for zoom in giant.zooms
    )
    return (
        f"<section><h2>The same question on {height:,} × {width:,} pixels</h2>"
        f"<p>One tiled TIFF on disk, {measured.regions:,} regions. The key in its corner is a <b>{giant.key}</b>: "
        f"which of the {giant.digits:,} digits elsewhere are like it, up to {max(height, width):,} pixels away? "
        f"No training image was larger than 1,024 pixels. A fresh process went through all of it in "
        f"{measured.seconds:.0f} s ({measured.cpu_seconds:.0f} s of processor time) and never held more than "
        f"{measured.peak_bytes / 2**30:.2f} GiB, Python and PyTorch included.</p>"
        f"<p>It marked {len(giant.found):,} places; {len(giant.true):,} would be right. F1 <b>{giant.f1:.2f}</b> "
        f"(precision {giant.precision:.2f}, recall {giant.recall:.2f}); who does not see the key gets "
        f"{giant.chance:.2f} at best.</p>"
        f'<div class="card"><figure>{_overview(giant)}<figcaption>seen from afar, averaged, so that no digit can be '
        "told any more; rings: digits like the key; dots: what was found</figcaption></figure>"
        '<h3 style="margin-top:22px">The key, and places that were found, at full resolution</h3>'
        f'<div class="crops">{zooms}</div></div></section>'
    )


def _overview(giant: Giant) -> str:
    height, width = giant.height, giant.width
    unit = max(height, width) / 1000
    rings = "".join(
        f'<circle class="digit" cx="{x:.0f}" cy="{y:.0f}" r="{5 * unit:.0f}" stroke-width="{unit:.1f}"/>'
        for y, x in zip(giant.true.y, giant.true.x, strict=True)
    )
    dots = "".join(
        f'<circle class="found" cx="{x:.0f}" cy="{y:.0f}" r="{2 * unit:.0f}"/>'
        for y, x in zip(giant.found.y, giant.found.x, strict=True)
    )
    picture = data_uri(stretched(giant.overview))
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img"><image href="{picture}" width="{width}" height="{height}" '
        f'preserveAspectRatio="none"/>{rings}{dots}</svg>'
    )
