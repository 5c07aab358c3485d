"""The house as it is meant to be: imports point one way, and `import xt` costs nothing but its name."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import xt

PACKAGE = Path(xt.__file__).parent

# The rooms of the house from bottom to top. Each may import those named here, all of which stand above it in this list,
# itself and the errors; "*" may import everything.
MAY_IMPORT = {
    "errors": set(),
    "output": set(),
    "option_types": set(),
    "registry": {"option_types"},
    "images": {"output"},
    "regions": {"images", "region_encoders"},
    "streaming": {"regions"},
    "region_encoders": {"option_types", "model"},
    "context_encoders": {"registry", "streaming"},
    "labels": {"output", "images"},
    "heads": {"registry", "regions", "labels"},
    "model": {
        "output", "registry", "images", "regions", "streaming", "region_encoders", "context_encoders", "heads",
        "config",
    },
    "recipes": set(),
    "data": {"output", "images", "regions", "streaming", "region_encoders", "labels", "model"},
    "config": {"images", "streaming", "labels", "model", "recipes", "data"},
    "metrics": {"labels"},
    "results": {"output", "images", "regions", "labels"},
    "tasks": {
        "output", "registry", "images", "regions", "streaming", "labels", "heads", "model", "data", "metrics",
        "results",
    },
    "prediction": {"output", "images", "regions", "labels", "heads", "results", "tasks"},
    "training": {
        "output", "registry", "images", "regions", "streaming", "region_encoders", "labels", "heads", "model",
        "data", "config", "metrics", "tasks", "prediction",
    },
    "planning": {"images", "regions", "streaming", "context_encoders", "heads", "model"},
    "checking": {
        "output", "images", "regions", "labels", "model", "data", "config", "results", "tasks", "prediction",
        "training",
        "planning",
    },
    "authors": {"output"},
    "doctor": {"images", "streaming", "region_encoders", "recipes", "config"},
    "cluster": set(),
    "testing": {"output", "images", "context_encoders"},
    "demo": {"*"},
    "cli": {"*"},
}  # fmt: skip


def part_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """The parts of xt that a file imports, those for type checkers left out."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    found = set()
    for node in ast.walk(tree):
        names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module == "xt":
            names = [f"xt.{alias.name}" for alias in node.names if alias.name != "__version__"]
        found |= {name.split(".")[1] for name in names if name.startswith("xt.")}
    return found


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_imports_point_one_way(path):
    if path == PACKAGE / "__init__.py":
        return
    allowed = MAY_IMPORT[part_of(path)]
    extra = imports_of(path) - allowed - {part_of(path), "errors"} if "*" not in allowed else set()
    assert not extra, f"{path.name} imports {extra}"


def test_the_arithmetic_of_regions_needs_no_torch():
    assert "torch" not in (PACKAGE / "regions" / "grid.py").read_text().replace("no torch", "")


def loaded_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )


def test_importing_xt_loads_nothing_heavy():
    assert not loaded_after("import xt") & {
        "torch",
        "timm",
        "rasterio",
        "openslide",
        "lightning",
        "matplotlib",
        "ray",
    }


def test_a_model_of_arrays_needs_no_file_libraries():
    loaded = loaded_after(
        "import xt, numpy; model = xt.create_model('convnext_atto', region_size=32, num_classes=2); "
        "model(xt.open_image(numpy.zeros((40, 40, 3), dtype='uint8')))"
    )
    assert "torch" in loaded
    assert not loaded & {"rasterio", "openslide", "zarr", "lightning", "matplotlib", "pycocotools"}


def test_the_public_names():
    assert sorted(xt.__all__) == sorted(
        [
            "DenseOptions", "DensePredictor", "LargeImage", "ModelConfig", "Plan", "Predictor", "RegionEncoder",
            "RegionGrid", "RegionReader", "Streaming", "XT", "XTError", "__version__", "check", "create_model",
            "detection_backbone", "load_authors_checkpoint", "load_model", "open_image", "plan", "stack",
            "streamed_map",
        ]
    )  # fmt: skip
    assert all(getattr(xt, name) is not None for name in xt.__all__)
    with pytest.raises(AttributeError, match="no attribute 'open_imag'"):
        _ = xt.open_imag
