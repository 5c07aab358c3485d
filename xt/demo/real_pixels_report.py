"""The report's section on real pixels: the image, the nuclei found in it, and the lines of Python that did it."""

import base64
from html import escape

import numpy as np

from xt.demo.nuclei_picture import as_png
from xt.demo.real_pixels import PIECE, RealPixels


def render_real_pixels(done: RealPixels) -> str:
    """The section as HTML."""
    height, width = done.shape
    known, planned = done.held_out, done.plan
    top, left, side = PIECE
    seconds = "" if planned.inference.seconds is None else f" and {planned.inference.seconds:.0f} s"
    return (
        "<section><h2>Real pixels</h2>"
        f"<p>A stained tissue section as a microscope saw it, {height:,} × {width:,} pixels of "
        f"{done.microns_per_pixel:.3f} micrometres. A model of {done.model_bytes / 1e6:.1f} MB, which comes with xt, "
        f"finds <b>{done.nuclei:,} nuclei</b>, typically {done.diameter:.1f} micrometres across. It has learned from "
        f"pictures of other cells; on {known['pictures']} of those that it has not seen, with {known['nuclei']:,} "
        f"nuclei, it reaches a Dice of {known['dice']:.2f}, and an F1 of {known['f1']:.2f} for whole nuclei. Nobody "
        "has marked the nuclei of this section, so there is no such number for it: look.</p>"
        '<div class="card"><div class="charts">'
        f"{_figure(done.whole, 'the whole image; the frame is seen on the right')}"
        f"{_figure(done.piece, f'y {top:,}, x {left:,}: {side} × {side} pixels, at full resolution')}"
        "</div></div>"
        f"<p>It was cut into {planned.regions} regions of {planned.region_size} pixels, read at the model's own "
        f"resolution. Expected before: {planned.inference.peak_bytes / 1e9:.2f} GB{seconds}; taken: "
        f"{done.peak_bytes / 1e9:.2f} GB, Python and PyTorch included, and {done.predict_s:.0f} s "
        f"({done.predict_cpu_s:.0f} s of processor time). The mask opens in QGIS and QuPath, the outlines as well. "
        "These lines of Python did it:</p>"
        f'<div class="card scroll"><pre><code>{escape(done.code)}</code></pre></div>'
        '<p class="soft">Image: Manuel Stritt, CC BY 4.0. The model learned from images of the 2018 Data Science Bowl, '
        "CC0.</p></section>"
    )


def _figure(pixels: np.ndarray, caption: str) -> str:
    png = base64.b64encode(as_png(pixels)).decode()
    return (
        f'<figure><img alt="nuclei, outlined" src="data:image/png;base64,{png}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )
