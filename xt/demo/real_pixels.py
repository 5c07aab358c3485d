"""The demo's first act: a real microscope's image is opened, planned and predicted with a small model that is shipped.

What is done here is what `CODE` says, which is printed for the user to do it again.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from xt.demo.digits import ASSETS
from xt.demo.nuclei_picture import Outlines, outlined, side_by_side
from xt.images import LargeImage, open_image
from xt.model.files import load_model
from xt.output import check_writable_folder
from xt.planning.plan import Plan, plan
from xt.prediction import DenseOptions, DensePredictor
from xt.streaming.memory import peak_bytes

Progress = Callable[[str, float, float, str], None]
"""Called as (what, done, total, unit)."""

IMAGE, MODEL = "section.ome.tif", "nuclei.safetensors"
# Of the results, as `xt predict` calls them.
_NAME = Path(IMAGE).stem
# Smaller finds are specks, in pixels of the image: 4 square micrometres.
LEAST_AREA = 80
CODE = """\
import xt
image = xt.open_image("{folder}/{image}")
model = xt.load_model("{folder}/{model}")
print(xt.plan(model, image, training=False))
nuclei = xt.DenseOptions(outlines=(1,), least_area={least_area})
xt.DensePredictor(model).predict(image, "{folder}/{name}", nuclei)
"""
COMMAND = """\
xt predict {folder}/{model} \\
  {folder}/{image} --out {folder}/again \\
  --outlines nucleus --least-area {least_area}
"""
# Of the piece that is shown at full resolution: top, left, side. Some nuclei there are white, some hardly seen.
PIECE = (800, 1200, 400)
_SHOWN = 1000


@dataclass(frozen=True, kw_only=True)
class RealPixels:
    """What the act did.

    Attributes:
        folder: that everything lies in, with copies of the image and the model.
        mask: the class of each pixel, a COG.
        outlines: of the nuclei, GeoJSON.
        overlay: both pictures below beside each other, PNG.
        whole: (h, w, 3) uint8, the image with the nuclei outlined.
        piece: likewise, `PIECE` of it enlarged.
        shape: (height, width) of the image, in pixels.
        microns_per_pixel: of the image.
        plan: what was predicted before.
        nuclei: how many were found.
        diameter: of a circle as large as the typical (median) one, in micrometres.
        held_out: what the model's own file says of pictures that it has not learned from; see
            `scripts/pretrain_demo_nuclei.py`.
        model_bytes: size of its file.
        peak_bytes: of the whole process, up to the end of the prediction.
        predict_s, predict_cpu_s: of the prediction alone.
        wall_s, cpu_s: of the act.
    """

    folder: Path
    mask: Path
    outlines: Path
    overlay: Path
    whole: np.ndarray
    piece: np.ndarray
    shape: tuple[int, int]
    microns_per_pixel: float
    plan: Plan
    nuclei: int
    diameter: float
    held_out: Mapping[str, Any]
    model_bytes: int
    peak_bytes: int
    predict_s: float
    predict_cpu_s: float
    wall_s: float
    cpu_s: float

    @property
    def code(self) -> str:
        """The lines of Python that do the same, for the folder that the program was started in."""
        return _filled(CODE, self.folder)

    @property
    def command(self) -> str:
        """The command that does the same."""
        return _filled(COMMAND, self.folder)


class _Clock:
    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def passed(self) -> tuple[float, float]:
        """Seconds, and processor-seconds of all threads."""
        return time.perf_counter() - self.wall, time.process_time() - self.cpu


def real_pixels(out: Path, progress: Progress) -> RealPixels:
    """Find the nuclei of the shipped image, and write mask, outlines and a picture to `out/real_pixels`.

    Raises:
        OutputError: `out` cannot be written to.
    """
    act = _Clock()
    folder = out / "real_pixels"
    # What an earlier demo left there, which may be half done.
    shutil.rmtree(folder, ignore_errors=True)
    check_writable_folder(folder)
    for name in (IMAGE, MODEL):
        shutil.copy(ASSETS / name, folder / name)
    model = load_model(folder / MODEL)
    with open_image(folder / IMAGE) as image:
        planned = plan(model, image, training=False)
        alone = _Clock()
        result = DensePredictor(model).predict(
            image,
            folder / _NAME,
            DenseOptions(outlines=(1,), least_area=LEAST_AREA),
            lambda what, done, total: progress(
                f"real pixels: {what}", done, total, "%" if what == "write" else "regions"
            ),
        )
        (predict_s, predict_cpu_s), peak = alone.passed(), peak_bytes()
        nuclei = Outlines.read(result.files["outlines"])
        assert image.microns_per_pixel is not None
        microns = image.microns_per_pixel[0]
        whole, piece = _pictures(image, nuclei, microns)
        shape = image.shape
    overlay = folder / f"{_NAME}.overlay.png"
    side_by_side(whole, piece, overlay)
    wall_s, cpu_s = act.passed()
    return RealPixels(
        folder=folder,
        mask=result.files["mask"],
        outlines=result.files["outlines"],
        overlay=overlay,
        whole=whole,
        piece=piece,
        shape=shape,
        microns_per_pixel=microns,
        plan=planned,
        nuclei=len(nuclei.rings),
        diameter=nuclei.typical_diameter() * microns,
        held_out=held_out(folder / MODEL),
        model_bytes=(folder / MODEL).stat().st_size,
        peak_bytes=peak,
        predict_s=predict_s,
        predict_cpu_s=predict_cpu_s,
        wall_s=wall_s,
        cpu_s=cpu_s,
    )


def held_out(model: Path) -> Mapping[str, Any]:
    """What the model's file says of itself."""
    with safe_open(model, framework="np") as file:
        said: Mapping[str, Any] = json.loads(file.metadata()["heldout"])
    return said


def format_real_pixels(done: RealPixels) -> str:
    """The act in lines of a terminal, 80 columns wide where the folder's name is short."""
    known, planned, microns = done.held_out, done.plan, done.microns_per_pixel
    height, width = done.shape
    seconds = "" if planned.inference.seconds is None else f", {planned.inference.seconds:.0f} s"
    lines = {
        "image": f"{IMAGE}, stained tissue: {height:,} x {width:,} pixels of {microns:.3f} microns",
        "model": f"{MODEL}, {done.model_bytes / 1e6:.1f} MB; on {known['pictures']} held-out pictures of other",
        "": f"cells ({known['nuclei']:,} nuclei) Dice {known['dice']:.2f}, F1 of whole nuclei {known['f1']:.2f}",
        "plan": f"{planned.regions} regions of {planned.region_size} pixels, {planned.tokens} tokens; "
        f"{planned.inference.peak_bytes / 1e9:.2f} GB{seconds} expected",
        "took": f"{done.peak_bytes / 1e9:.2f} GB, {done.predict_s:.0f} s "
        f"({done.predict_cpu_s:.0f} processor-seconds)",
        "found": f"{done.nuclei:,} nuclei, typically {done.diameter:.1f} microns across; nobody has counted",
        " ": "them in this image, so look at the picture:",
        "picture": f"{done.overlay}",
        "mask": f"{done.mask.name}, for QGIS and GDAL",
        "outlines": f"{done.outlines.name}, for QuPath and QGIS",
    }
    said = "\n".join(f"{name.strip():<9}{value}" for name, value in lines.items())
    # Not indented, so that they can be copied.
    return (
        f"{said}\n\nThese lines of Python did it:\n\n{done.code}\nand so does this command:\n\n{done.command}"
    )


def _pictures(image: LargeImage, nuclei: Outlines, microns: float) -> tuple[np.ndarray, np.ndarray]:
    """The whole image and the piece, outlined."""
    top, left, side = PIECE
    return (
        outlined(image, (0, 0, *image.shape), nuclei, _SHOWN, microns, bar=100, frame=PIECE),
        outlined(image, (top, left, side, side), nuclei, _SHOWN, microns, bar=20),
    )


def _filled(text: str, folder: Path) -> str:
    return text.format(folder=folder.as_posix(), image=IMAGE, model=MODEL, name=_NAME, least_area=LEAST_AREA)
