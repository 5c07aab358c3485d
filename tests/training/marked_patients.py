"""A cohort whose patients can be told apart and whose labels mean nothing: each has a colour of its own."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile

SMALLEST: dict[str, Any] = {
    "encoder": "convnext_atto",
    "encoder_options": {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]},
    "region_size": 32,
    "dim": 32,
    "context": "none",
    "in_channels": 16,
}


def marked_patients(folder: Path, patients: int = 16, images: int = 4, seed: int = 0) -> Path:
    """Write images of 32 x 32 pixels and `cohort.csv` with the columns image, label, patient."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["image,label,patient"]
    labels = rng.permutation(np.arange(patients) % 2)
    for patient in range(patients):
        colour = rng.uniform(20, 235, (1, 1, 16))
        for number in range(images):
            pixels = (colour + rng.normal(0, 8, (32, 32, 16))).clip(0, 255).astype(np.uint8)
            name = f"p{patient}_{number}.tif"
            tifffile.imwrite(folder / name, pixels, photometric="minisblack", planarconfig="contig")
            rows.append(f"{name},{('healthy', 'ill')[labels[patient]]},p{patient}")
    (folder / "cohort.csv").write_text("\n".join(rows) + "\n")
    return folder / "cohort.csv"
