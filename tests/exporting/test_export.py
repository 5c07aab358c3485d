import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import xt
from tests.exporting.exports import (
    SMALL_CONTEXTS,
    assert_same_answers,
    assert_same_places,
    model_to_export,
    pixels,
    written_image,
)
from tests.small_models import SMALL_ENCODERS, small_model
from xt.cli.main import main
from xt.errors import CheckpointError, ConfigError, DataWarning, OutputError
from xt.exporting.loading import load_exported
from xt.exporting.manifest import read_manifest
from xt.exporting.parts import Part, parts_of
from xt.exporting.programs import graph_of, read_part, write_part


@pytest.fixture(scope="module")
def model() -> xt.XT:
    return model_to_export(
        "none",
        class_names=["sea", "ship", "ice"],
        head_options={"temperature": 1.7},
        case_images=2,
        thumbnail=True,
    )


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "model"
    xt.export(model, folder)
    return folder


def test_an_exported_model_answers_as_the_model(model, exported):
    """Of one region and of many, so that batches are of one and of several."""
    assert_same_answers(model, exported, (50, 40), (210, 330), (64, 1000))


def test_whoever_may_read_one_of_its_files_may_read_all(exported):
    """safetensors writes files for nobody else."""
    assert {path.name for path in exported.iterdir()} >= {"rest.safetensors", "manifest.json"}
    assert len({path.stat().st_mode for path in exported.iterdir()}) == 1


def test_cases_know_which_image_is_which(model, exported):
    case = xt.model.cases.Case([xt.open_image(pixels(100, 90)), xt.open_image(pixels(64, 200))], "case")
    found, wanted = (xt.Predictor(one, "cpu").predict(case) for one in (load_exported(exported)[0], model))
    assert abs(found.logits - wanted.logits).max() < 1e-5


def test_predict_takes_the_folder_and_goes_on_where_it_was(model, exported, tmp_path):
    images = [written_image(tmp_path / name) for name in ("a.tif", "b.tif")]
    assert main(["predict", str(exported), str(images[0]), "--out", str(tmp_path / "found")]) == 0
    again = xt.predict(exported, images, tmp_path / "found")
    assert [image.done_before for image in again.images] == [True, False]
    wanted = xt.predict(model, images, tmp_path / "wanted")
    tables = [
        pd.read_csv(result.table).drop(columns=["checkpoint"], errors="ignore") for result in (again, wanted)
    ]
    pd.testing.assert_frame_equal(*tables, atol=1e-5)


def test_the_manifest_says_what_is_in_no_graph(exported):
    said = json.loads((exported / "manifest.json").read_text())
    assert said["class_names"] == ["sea", "ship", "ice"]
    assert said["config"]["head_options"] == {"temperature": 1.7}
    assert said["region"]["region_size"] == 64
    assert said["parts"]["region_encoder"]["inputs"] == {"pixels": ["regions", 3, 64, 64]}
    assert said["versions"]["torch"] == torch.__version__
    assert sorted(path.name for path in exported.iterdir()) == [
        "head.pt2",
        "manifest.json",
        "region_encoder.pt2",
        "rest.safetensors",
    ]
    assert read_manifest(exported).part("context_encoder") is None


def choosing(
    regions: str, context: str = "none", head: str = "classification", *, halo: int = 0, **options: Any
) -> xt.XT:
    """A model that looks at the whole image and at what it chooses of it, and tells scales apart."""
    model = model_to_export(
        context, head, regions=regions, regions_options=options, thumbnail=True, halo=halo
    )
    with torch.no_grad():
        for parameter in (*model.which_scale.parameters(), *model.thumbnail.tell.parameters()):
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def test_an_exported_model_chooses_as_the_model(tmp_path):
    """By a scorer, which is in no graph; of one region and of many, and within another budget."""
    model = choosing("by_model", budget=0.5)
    xt.export(model, tmp_path / "model")
    assert_same_answers(model, tmp_path / "model", (50, 40), (400, 520))
    assert_same_answers(model, tmp_path / "model", (400, 520), budget=0.2)
    exported, _ = load_exported(tmp_path / "model")
    within = [
        len(xt.Predictor(exported, "cpu", budget=budget).predict(pixels(400, 520)).grid)
        for budget in (0.2, None)
    ]
    assert within[0] < within[1] <= 32


@pytest.mark.slow
@pytest.mark.parametrize(
    ("regions", "options"),
    [
        ("by_content", {"budget": 0.4}),
        ("by_content", {"tolerance": 0.5}),
        ("by_content", {"budget": 0.4, "keep_coarse": True}),
        ("by_model", {"budget": 30, "noise": 0.0}),
    ],
)
def test_every_way_to_choose_is_exported(regions, options, tmp_path):
    model = choosing(regions, **options)
    xt.export(model, tmp_path / "model")
    assert_same_answers(model, tmp_path / "model", (210, 330), (700, 900))
    if "budget" in options:
        assert_same_answers(model, tmp_path / "model", (700, 900), budget=0.2)
    # More of them than either takes.
    assert_same_answers(model, tmp_path / "model", (210, 330), seconds=1e6)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["segmentation", "points", "detection"])
@pytest.mark.parametrize("regions", ["by_content", "by_model"])
def test_dense_heads_answer_about_what_is_chosen(regions, head, tmp_path):
    model = choosing(regions, "mamba2", head, halo=32, budget=0.6)
    xt.export(model, tmp_path / "model")
    assert_same_places(model, tmp_path / "model", (50, 40), (210, 330), (400, 500))
    # And what is written of it, enlarged smoothly where it was seen coarsely.
    rows, masks = [], []
    for name, one in (("wanted", model), ("found", load_exported(tmp_path / "model")[0])):
        result = xt.predict(one, {"scene": pixels(400, 500)}, tmp_path / name, device="cpu", budget=0.4)
        (written,) = result.images
        rows.append({key: value for key, value in written.values.items() if key != "image"})
        if head == "segmentation":
            masks.append(xt.open_image(written.files["mask"]).read(0, 0, 400, 500))
    assert rows[0] == rows[1]
    assert int(rows[0]["finest_scale"]) < 4
    assert all((one != masks[0]).mean() < 1e-4 for one in masks)


def test_a_budget_of_an_export_that_looks_at_everything_is_by_content(exported, model):
    """And one may not have learned from coarse regions, which is said."""
    with pytest.warns(DataWarning, match="has learned from full resolution alone"):
        assert_same_answers(model, exported, (400, 520), budget=0.3)


@pytest.mark.slow
def test_a_machine_without_timm_and_lightning_predicts(exported, tmp_path):
    image, found = written_image(tmp_path / "a.tif"), tmp_path / "found"
    absent = ("timm", "lightning", "transformers", "torchmetrics", "pytorch_lightning")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent}))\n"
        f"import xt; result = xt.predict({str(exported)!r}, {str(image)!r}, {str(found)!r})\n"
        "assert not result.failed, result.failed"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_a_changed_or_missing_graph_is_refused(exported, tmp_path):
    for damage, message in (
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"), "is not the file that its manifest"),
        (Path.unlink, "is missing: copy the whole folder"),
    ):
        copy = tmp_path / message[:6].strip()
        copy.mkdir()
        for path in exported.iterdir():
            (copy / path.name).write_bytes(path.read_bytes())
        damage(copy / "head.pt2")
        with pytest.raises(CheckpointError, match=message):
            load_exported(copy)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "manifest.json is damaged"),
        ("[]", "of the format 'list'"),
        ('{"format": "xt exported model 9"}', "of the format 'xt exported model 9'"),
        ('{"format": "xt exported model 1", "graphs": 3}', "manifest.graphs must be"),
        ('{"format": "xt exported model 1", "odd": 3}', "unknown key 'manifest.odd'"),
    ],
)
def test_a_damaged_manifest_is_refused(text, message, tmp_path):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        load_exported(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"), [("notes.txt", "mine"), ("manifest.json", '{"name": "a page"}'), ("manifest.json", "")]
)
def test_only_an_exported_model_is_replaced(name, text, model, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(OutputError, match="holds no exported model"):
        xt.export(model, tmp_path)
    assert (tmp_path / name).read_text() == text


def test_info_says_what_an_exported_model_is(exported, capsys):
    assert main(["info", str(exported)]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()[1:]]
    said = dict(line.split("  ", 1) for line in lines)
    said = {name: value.strip() for name, value in said.items()}
    assert said["exported"] == f"as pt2, for `xt predict`; by xt {xt.__version__}"
    assert said["model"].endswith(", none, classification")
    assert said["head"].startswith("head.pt2, ")
    assert said["head"].endswith(" MB, run by PyTorch")
    assert said["classes"] == "3: sea, ship, ice"
    assert said["regions"] == "64 pixels, 3 channels"
    (exported / "manifest.json").rename(exported / "kept")
    try:
        (exported / "manifest.json").write_text('{"format": "xt exported model 9"}')
        assert main(["info", str(exported)]) == 2
    finally:
        (exported / "kept").rename(exported / "manifest.json")
    assert "of the format 'xt exported model 9'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ("evaluate", "{model}", "table.csv"),
        ("encode", "{model}", "a.tif", "--out", "tokens"),
        ("push", "{model}", "lab/model"),
        ("plan", "--image", "a.tif", "--model", "{model}"),
    ],
    ids=lambda command: command[0],
)
def test_what_takes_no_exported_model_says_so(command, exported, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    written_image(tmp_path / "a.tif")
    (tmp_path / "table.csv").write_text("image,label\na.tif,sea\n")
    assert main([word.format(model=exported) for word in command]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"{exported} is an exported model, made for `xt predict`: name the run" in said
    with pytest.raises(CheckpointError, match="is an exported model, made for `xt predict`"):
        xt.load_model(exported)


@pytest.mark.parametrize(("context", "options"), [("hyper", {}), ("longformer", {"window": "2d"})])
def test_a_part_that_cannot_be_a_graph_says_so_and_nothing_is_left(context, options, tmp_path):
    model = xt.create_model("convnext_atto", region_size=64, dim=32, context=context, context_options=options)
    with pytest.raises(ConfigError, match=f"the context encoder '{context}'.* cannot be exported"):
        xt.export(model, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_what_a_format_lacks_is_named(model, tmp_path, monkeypatch):
    """PyTorch's exporters say at the top which step failed, in colours, and what for at the bottom."""

    def fail(*_):
        try:
            raise LookupError("\x1b[96mno function\x1b[0m for aten.solve")
        except LookupError as error:
            raise RuntimeError("This is step 3/3 of exporting. Next steps:\n...") from error

    monkeypatch.setattr("xt.exporting.programs.OnnxProgram.write", fail)
    part = next(iter(parts_of(model)))
    said = r"cannot be written as onnx \(LookupError: no function for aten\.solve\): docs/export\.md tells"
    with pytest.raises(ConfigError, match=said):
        write_part(part, None, tmp_path / "a.onnx", "onnx")


def test_options_that_do_not_fit_are_refused(model, exported, tmp_path):
    with pytest.raises(ConfigError, match="format must be one of pt2, onnx, got 'tflite'"):
        xt.export(model, tmp_path / "model", format="tflite")
    with pytest.raises(ConfigError, match="compile is for the format pt2"):
        xt.export(model, tmp_path / "model", format="onnx", compile=True)
    with pytest.raises(CheckpointError, match="is an exported model already"):
        xt.export(exported, tmp_path / "model")


def test_an_exported_model_does_not_learn_and_says_so(exported):
    model, _ = load_exported(exported)
    with pytest.raises(ConfigError, match="was exported as far as its tokens"):
        model.region_encoder.features(torch.zeros(1, 3, 64, 64))


def assert_same_regions(name: str) -> None:
    """A region encoder's graph, of one region and of several."""
    torch.manual_seed(0)
    model = small_model(name, context="none") if name in SMALL_ENCODERS else create_small(name)
    part = parts_of(model.eval())[-1]
    graph = graph_of(part).module()
    for count in (1, 2, 5):
        pixels = torch.randn(count, 3, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(graph(pixels), part.module(pixels), atol=1e-5, rtol=1e-5)


def create_small(name: str) -> xt.XT:
    return xt.create_model(name, region_size=64, dim=32, context="none")


def test_a_swin_is_a_graph_of_any_number_of_regions():
    assert_same_regions("swinv2_tiny_window8_256")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SMALL_ENCODERS, "resnet18", "vit_tiny_patch16_224", "efficientnet_lite0"])
def test_every_family_is_a_graph_of_any_number_of_regions(name):
    assert_same_regions(name)


@pytest.mark.slow
@pytest.mark.parametrize("context", [name for name in SMALL_CONTEXTS if name != "none"])
def test_every_context_encoder_answers_the_same_at_any_length(context, tmp_path):
    model = model_to_export(context)
    xt.export(model, tmp_path / "model")
    assert_same_answers(model, tmp_path / "model", (50, 40), (210, 330), (64, 1000), (700, 900))


@pytest.mark.slow
@pytest.mark.parametrize("context", ["mamba2", "transformer_xl", "multiscale", "none"])
@pytest.mark.parametrize("head", ["segmentation", "points", "detection"])
def test_every_dense_head_answers_the_same(head, context, tmp_path):
    model = model_to_export(context, head, halo=32)
    xt.export(model, tmp_path / "model")
    assert_same_places(model, tmp_path / "model", (50, 40), (210, 330), (400, 500))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "settings"),
    [
        ("multilabel", {"head_options": {"thresholds": [0.3, 0.5, 0.6]}}),
        ("regression", {"head_options": {"mean": [1.0, 2.0, 3.0], "std": [2.0, 2.0, 1.0]}}),
        ("ordinal", {}),
        ("survival", {"num_classes": 1}),
        ("survival_intervals", {"num_classes": 2, "head_options": {"cuts": [1, 2, 5], "times": [2.5]}}),
        (
            "multitask",
            {
                "head_options": {
                    "answers": {
                        "sort": {
                            "kind": "classification",
                            "head": "classification",
                            "class_names": ["a", "b"],
                        },
                        "size": {"kind": "regression", "head": "regression", "class_names": ["size"]},
                    }
                }
            },
        ),
    ],
)
def test_every_head_about_whole_images_answers_the_same(head, settings, tmp_path):
    model = model_to_export("none", head, **settings)
    xt.export(model, tmp_path / "model")
    assert_same_answers(model, tmp_path / "model", (50, 40), (210, 330))


class Sorted(torch.nn.Module):
    """Numbers, many of them equal -> in which order they come."""

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (tokens.round().long().argsort(dim=1, stable=True),)


def test_equals_keep_their_order_in_onnx(tmp_path):
    pytest.importorskip("onnxruntime")
    shapes = {"tokens": (1, "length", 2)}, {"order": (1, "length", 2)}
    part = Part("context_encoder", Sorted(), *shapes, torch.device("cpu"))
    write_part(part, graph_of(part), tmp_path / "sorted.onnx", "onnx")
    program = read_part(tmp_path / "sorted.onnx", "onnx")
    for length in (1, 37, 5000):
        tokens = torch.randn(1, length, 2)
        assert torch.equal(program(tokens)[0], part.module(tokens)[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("context", "head"),
    [
        ("none", "classification"),
        ("mamba2", "classification"),
        ("transformer_xl", "segmentation"),
        ("mamba2", "detection"),
        ("longformer", "points"),
        ("multiscale", "classification"),
    ],
)
def test_onnx_runtime_answers_the_same(context, head, tmp_path):
    pytest.importorskip("onnxruntime")
    is_dense = head != "classification"
    model = model_to_export(context, head, **({"halo": 32} if is_dense else {}))
    xt.export(model, tmp_path / "model", format="onnx")
    same = assert_same_places if is_dense else assert_same_answers
    same(model, tmp_path / "model", (50, 40), (210, 330))


@pytest.mark.slow
@pytest.mark.parametrize("context", ["none", "mamba2"])
def test_compiled_graphs_answer_the_same(context, tmp_path):
    model = model_to_export(context)
    xt.export(model, tmp_path / "model", compile=True)
    assert_same_answers(model, tmp_path / "model", (50, 40), (210, 330))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_coarser_weights_answer_nearly_the_same(dtype, tmp_path):
    model = model_to_export("none", encoder="swinv2_tiny_window8_256")
    wanted = xt.Predictor(model, "cpu").predict(xt.open_image(pixels()))
    xt.export(model.train(), tmp_path / "model", encoder_dtype=dtype)
    assert model.training
    assert model.region_encoder.encoder_dtype == "float32"
    exported, said = load_exported(tmp_path / "model")
    assert said.region["encoder_dtype"] == dtype
    found = xt.Predictor(exported, "cpu").predict(xt.open_image(pixels()))
    assert 0 < abs(found.logits - wanted.logits).max() < 0.1
