"""The house as it is meant to be: imports point one way, and `import xt` costs nothing but its name."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import xt
from xt.cli.main import COMMANDS
from xt.tasks import TASKS

PACKAGE = Path(xt.__file__).parent

# The rooms of the house, from those that need no other to those that need many. Each may import what is named here,
# all of which stands before it in this list, itself and the errors; "*" may import everything.
MAY_IMPORT = {
    "errors": set(),
    "machine": set(),
    "output": set(),
    "progress": set(),
    "option_types": set(),
    "registry": {"option_types"},
    "images": {"output", "registry"},
    "regions": {"option_types", "images"},
    "streaming": {"progress", "regions"},
    "region_encoders": {"option_types", "registry", "regions"},
    "hub": {"region_encoders"},
    "context_encoders": {"registry", "streaming"},
    "labels": {"output", "registry", "images"},
    "heads": {"option_types", "registry", "regions", "streaming", "labels"},
    "model": {
        "output", "progress", "option_types", "registry", "images", "regions", "streaming", "region_encoders", "hub",
        "context_encoders", "heads",
    },
    "recipes": {"registry"},
    "data": {
        "machine", "output", "option_types", "progress", "registry", "images", "regions", "streaming",
        "region_encoders", "labels", "model",
    },
    "metrics": {"labels"},
    "results": {"output", "progress", "images", "regions", "labels"},
    "tasks": {
        "output", "progress", "option_types", "registry", "images", "regions", "streaming", "labels", "heads", "model",
        "data", "metrics", "results",
    },
    "config": {
        "option_types", "registry", "images", "streaming", "region_encoders", "labels", "model", "recipes", "data",
        "tasks",
    },
    "cluster": {"machine", "progress"},
    "training": {
        "output", "progress", "registry", "images", "regions", "streaming", "region_encoders", "hub", "labels",
        "heads", "model", "data", "config", "metrics", "results", "tasks", "cluster",
    },
    "exporting": {
        "output", "option_types", "progress", "images", "regions", "region_encoders", "context_encoders", "heads",
        "model", "config", "training",
    },
    "prediction": {
        "machine", "output", "progress", "images", "regions", "streaming", "hub", "labels", "heads", "model", "data",
        "config", "metrics", "results", "recipes", "tasks", "training", "cluster", "exporting",
    },
    "planning": {"images", "regions", "streaming", "context_encoders", "heads", "model"},
    "checking": {
        "machine", "output", "progress", "images", "regions", "labels", "model", "data", "config", "results", "tasks",
        "prediction", "training", "planning",
    },
    "viewer": {
        "machine", "output", "progress", "images", "regions", "streaming", "labels", "heads", "model", "data",
        "metrics", "config", "results", "tasks", "prediction", "training", "checking",
    },
    "authors": {"output"},
    "doctor": {"machine", "images", "streaming", "region_encoders", "recipes", "config"},
    "testing": {
        "output", "images", "streaming", "region_encoders", "context_encoders", "labels", "model", "data", "results",
        "tasks", "prediction",
    },
    "demo": {"*"},
    "cli": {"*"},
}  # fmt: skip


def part_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """The parts of xt that a file imports."""
    return {module.split(".")[1] for module in modules_of(path)}


def name_of(path: Path) -> str:
    """A module's name, of a folder's own file that of the folder."""
    parts = ("xt", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in PACKAGE.rglob("*.py")}


def modules_of(path: Path) -> set[str]:
    """The modules of xt that a file imports, also inside of functions; those for type checkers left out."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    found = set()
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names if alias.name != "__version__"]
            # What is imported from a folder is one of its modules, or something that its own file gives.
            names = [name if name in NAMES or node.module == "xt" else node.module for name in inner]
        found |= {name for name in names if name.startswith("xt.")}
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


def test_the_table_has_an_order():
    """Whatever a room may import stands before it; so there are no circles between rooms."""
    rooms = list(MAY_IMPORT)
    for number, (room, allowed) in enumerate(MAY_IMPORT.items()):
        assert allowed <= {*rooms[:number], "*"}, f"{room} may import what stands behind it"


def test_few_modules_stand_beside_the_folders():
    loose = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert len(loose) <= 5, f"at most five loose modules, found {sorted(loose)}: what is more needs a room"
    assert {part_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__"} <= set(MAY_IMPORT)


# A fluent interface has its price: an image gives views of itself, and they are images.
IMAGE_AND_VIEWS = {"xt.images.image", "xt.images.views", "xt.images.resampled"}


def test_modules_import_each_other_in_no_circle():
    """Inside the rooms, too, and not from within functions either."""
    ahead = {name_of(path): modules_of(path) & NAMES - {name_of(path)} for path in PACKAGE.rglob("*.py")}
    ahead["xt"] = set()  # gives names of everything, when they are asked for
    # What imports nothing that is left is on no circle, again and again.
    while free := {name for name, imports in ahead.items() if not imports & ahead.keys()}:
        ahead = {name: imports for name, imports in ahead.items() if name not in free}
    # Nor is what nothing that is left imports.
    while free := ahead.keys() - set().union(*ahead.values()):
        ahead = {name: imports for name, imports in ahead.items() if name not in free}
    assert ahead.keys() <= IMAGE_AND_VIEWS, f"import each other: {sorted(ahead.keys() - IMAGE_AND_VIEWS)}"


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


def test_exported_models_need_no_code_that_trains():
    loaded = loaded_after(
        "import xt.exporting.loading, xt.prediction.predictor, xt.prediction.dense_predictor, xt.prediction.trained"
    )
    assert not loaded & {"timm", "transformers", "lightning", "torchmetrics", "pycocotools"}


def test_functions_that_are_commands_load_what_they_need_when_they_need_it():
    """A run that is refused, or finds everything done, does not wait for torch; the library draws no bars."""
    loaded = loaded_after(
        "import xt; xt.predict, xt.evaluate, xt.encode, xt.export, xt.PredictConfig(), xt.ProgressLines()"
    )
    assert not loaded & {"torch", "timm", "rasterio", "openslide", "lightning", "matplotlib", "ray", "rich"}


def test_help_loads_nothing():
    loaded = loaded_after("from xt.cli.main import main; main(['--help'])")
    assert not loaded & {"torch", "numpy", "rasterio", "rich", "yaml", "jsonargparse"}


def test_commands_parse_and_print():
    """No part needs a command, nor does another command; only the command line knows what it was typed as."""
    commands = {module for module, _ in COMMANDS.values()}
    files = [path for path in PACKAGE.rglob("*.py") if part_of(path) != "cli"]
    assert [path for path in PACKAGE.rglob("*.py") if modules_of(path) & commands] == []
    assert [path for path in files if "argparse.Namespace" in path.read_text()] == []
    assert [path for path in files if any(name.startswith("xt.cli") for name in modules_of(path))] == []


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
            "ContextEncoder", "DenseHead", "DenseOptions", "DensePredictor", "EncodeConfig", "EvaluateConfig", "Head",
            "LargeImage", "MappedImage", "ModelConfig", "ModuleEncoder", "Plan", "PredictConfig", "Predictor",
            "ProgressLines", "RegionEncoder", "RegionGrid", "RegionReader", "Streaming", "Task", "TimmEncoder", "XT",
            "XTError", "__version__", "check", "create_model", "detection_backbone", "encode", "evaluate", "export",
            "load_authors_checkpoint", "load_config", "load_model", "open_image", "plan", "predict", "register",
            "stack", "streamed_map", "train", "view",
        ]
    )  # fmt: skip
    assert all(getattr(xt, name) is not None for name in xt.__all__)
    with pytest.raises(AttributeError, match="no attribute 'open_imag'"):
        _ = xt.open_imag


# What is called as a task is and means something else: columns and kinds of labels, units, other programs' words; and
# the head that a model has where none is chosen.
WORDS = {
    "checking/assumptions.py": {"points"},
    "checking/columns.py": {"points"},
    "config/before.py": {"classification"},
    "data/dense_table.py": {"points"},
    "data/sources/scenes.py": {"points"},
    "model/config.py": {"classification"},
    "results/dense_overlay.py": {"points"},
    "results/geojson.py": {"classification", "detection"},
    "results/shown.py": {"points"},
    "tasks/label_facts.py": {"points"},
    "tasks/point_results.py": {"points"},
    "training/tables.py": {"points"},
    "viewer/corrected_file.py": {"classification"},
    "viewer/corrected_folder.py": {"points"},
    "viewer/corrections.py": {"points"},
    "viewer/differences.py": {"points"},
    "viewer/drawn.py": {"classification"},
    "viewer/objects.py": {"points"},
    "viewer/starting.py": {"points"},
}
# Where a command's usual recipe is named.
RECIPES = {"checking/proposal.py": {"classification"}, "tasks/answers.py": {"classification"}}


def outside_tasks() -> list[Path]:
    """All files but those of labels and heads, which tasks are made of, and the demo, which is a user."""
    files = sorted(PACKAGE.rglob("*.py"))
    return [path for path in files if part_of(path) not in ("labels", "heads", "demo")]


@pytest.mark.parametrize("path", outside_tasks(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_task_s_name_stands_in_its_own_file_only(path):
    relative = str(path.relative_to(PACKAGE))
    own = {path.stem} if part_of(path) == "tasks" else set()
    allowed = own | WORDS.get(relative, set()) | RECIPES.get(relative, set())
    texts = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
    named = {text for text in texts if isinstance(text, str)} & set(TASKS) - allowed
    assert not named, f"{relative} names {named}: ask the task (xt.tasks.task_of)"


@pytest.mark.parametrize("path", outside_tasks(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nobody_asks_which_head_or_label_it_has(path):
    asked = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "isinstance"
        and re.search(r"\b\w*(Head|Target|PointTable|BoxTable)\b", ast.unparse(node.args[1]))
    ]
    assert not asked, f"{path.name} asks {asked}: an interface should speak"
