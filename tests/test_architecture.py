"""The house as it is meant to be: imports point one way, and `import xt` costs nothing but its name."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import xt

PACKAGE = Path(xt.__file__).parent

# Each part may import the parts named here, itself and the errors; "*" may import everything.
MAY_IMPORT = {
    "errors": set(),
    "output": set(),
    "option_types": set(),
    "registry": {"option_types"},
    "memory": set(),
    "footprint": set(),
    "replay_conditions": set(),
    "pixels": set(),
    "model_config": {"images"},
    "images": {"output"},
    "photo": {"images"},
    "regions": {"images"},
    "foreground": {"images"},
    "reader": {"images", "regions"},
    "streamed_tensors": set(),
    "replay": {"memory", "replay_conditions", "streamed_tensors"},
    "room": {"memory", "replay", "replay_conditions"},
    "streaming": {"replay", "streamed_tensors"},
    "sequences": {"regions"},
    "pretrained": set(),
    "region_encoders": {"model_config", "option_types", "pixels", "pretrained"},
    "region_batch": {"footprint", "memory", "region_encoders"},
    "whole_maps": {"pixels", "regions"},
    "region_pyramid": {
        "context_encoders", "heads", "model_config", "pixels", "reader", "region_batch", "region_encoders", "regions",
        "registry", "room", "sequences", "streaming", "whole_maps",
    },
    "region_parallel": {"regions"},
    "encoded_images": {"region_encoders", "region_parallel", "regions", "streaming"},
    "context_encoders": {"registry", "replay_conditions"},
    "heads": {"registry", "regions"},
    "region_targets": {"heads", "reader", "regions"},
    "dense": {
        "heads", "memory", "region_encoders", "region_parallel", "region_targets", "regions", "replay",
        "replay_conditions", "room", "sequences", "streamed_tensors", "streaming",
    },
    "authors": {"output"},
    "model_inputs": {"encoded_images", "images", "model_config", "regions"},
    "model": {
        "images", "regions", "foreground", "reader", "streaming", "region_encoders", "region_batch", "encoded_images",
        "context_encoders", "dense", "heads", "output", "photo", "registry", "model_config", "model_inputs",
        "region_parallel", "room", "sequences",
    },
    "planning": {
        "context_encoders", "footprint", "heads", "images", "memory", "model", "model_config", "reader", "region_batch",
        "region_encoders", "regions", "streaming",
    },
    "data": {
        "encoded_images", "heads", "images", "model", "model_config", "output", "photo", "pixels", "reader",
        "regions", "streaming",
    },
    "data_configuration": {"data", "images"},
    "configuration": {"data", "data_configuration", "model_config", "streaming"},
    "recipes": set(),
    "configuration_files": {"configuration", "data", "recipes"},
    "configuration_parser": {"configuration", "configuration_files", "recipes"},
    "model_files": {"configuration_parser", "model", "model_config"},
    "metrics": {"data", "heads"},
    "prediction": {"heads", "images", "output", "regions", "model", "streaming"},
    "training": {
        "configuration", "configuration_parser", "data", "heads", "images", "memory", "metrics", "model",
        "model_config", "model_files", "output", "pixels", "prediction", "pretrained", "regions", "registry",
        "streaming",
    },
    "checking": {
        "configuration", "configuration_files", "configuration_parser", "data", "foreground", "heads", "images",
        "model", "output", "photo", "planning", "prediction", "reader", "training",
    },
    "testing": {"images", "context_encoders", "output"},
    "doctor": {"configuration_files", "images", "memory", "pretrained", "recipes"},
    "demo": {"*"},
    "cluster": set(),
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
    assert "torch" not in (PACKAGE / "regions.py").read_text().replace("no torch", "")


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
