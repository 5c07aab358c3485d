"""Small DICOM slides: a file for each level, uncompressed, as OpenSlide reads them."""

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
CT = "1.2.840.10008.5.1.4.1.1.2"
_TILE = 16


def write_level(
    path: Path,
    pixels: np.ndarray,
    series: str,
    *,
    microns: float = 0.5,
    kind: str = "VOLUME",
    number: int = 1,
) -> Path:
    """One file of a slide: (height, width, 3) of 8 bits."""
    file = _file(path, SLIDE)
    height, width = pixels.shape[:2]
    rows, columns = -(-height // _TILE), -(-width // _TILE)
    padded = np.full((rows * _TILE, columns * _TILE, 3), 255, np.uint8)
    padded[:height, :width] = pixels
    frames = padded.reshape(rows, _TILE, columns, _TILE, 3).swapaxes(1, 2).reshape(-1, _TILE, _TILE, 3)
    file.SeriesInstanceUID = series
    file.StudyInstanceUID = generate_uid(entropy_srcs=["study", series])
    file.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame", series])
    file.Modality = "SM"
    original = number == 1 or kind != "VOLUME"
    file.ImageType = [
        "ORIGINAL" if original else "DERIVED",
        "PRIMARY",
        kind,
        "NONE" if original else "RESAMPLED",
    ]
    file.InstanceNumber = number
    file.Rows = file.Columns = _TILE
    file.TotalPixelMatrixRows, file.TotalPixelMatrixColumns = height, width
    file.NumberOfFrames = len(frames)
    file.SamplesPerPixel, file.PlanarConfiguration, file.PhotometricInterpretation = 3, 0, "RGB"
    file.BitsAllocated = file.BitsStored = 8
    file.HighBit, file.PixelRepresentation = 7, 0
    file.DimensionOrganizationType = "TILED_FULL"
    file.TotalPixelMatrixFocalPlanes = file.NumberOfOpticalPaths = 1
    file.ImagedVolumeWidth, file.ImagedVolumeHeight = width * microns / 1000, height * microns / 1000
    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [microns / 1000] * 2, 0.001
    shared.PixelMeasuresSequence = [measures]
    file.SharedFunctionalGroupsSequence = [shared]
    file.PixelData = frames.tobytes()
    file.save_as(path, enforce_file_format=True)
    return path


def write_slide(folder: Path, pixels: np.ndarray, names: list[str], series: str = "") -> list[Path]:
    """A slide whose levels halve, each in a file of its own; with a label in a file beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    series = series or generate_uid()
    paths = []
    for level, name in enumerate(names):
        step = 2**level
        paths.append(
            write_level(folder / name, pixels[::step, ::step], series, microns=0.5 * step, number=level + 1)
        )
    return paths


def write_ct(path: Path) -> Path:
    """A slice of a tomography: DICOM, but no slide."""
    file = _file(path, CT)
    file.SeriesInstanceUID, file.Modality = generate_uid(), "CT"
    file.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    file.Rows = file.Columns = 8
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated = file.BitsStored = 16
    file.HighBit, file.PixelRepresentation = 15, 0
    file.PixelData = np.zeros((8, 8), np.uint16).tobytes()
    file.save_as(path, enforce_file_format=True)
    return path


def _file(path: Path, sop_class: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = pydicom.uid.PYDICOM_IMPLEMENTATION_UID
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    return file
