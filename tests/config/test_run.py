"""Configurations: from YAML and the command line, and what is said when something does not fit."""

import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from xt import registry
from xt.config.catalogue import all_keys, sections, variants
from xt.config.help import documented, format_keys
from xt.config.parser import config_from_dict, config_to_dict, config_to_yaml, load_config
from xt.config.run import CompareConfig, RunConfig
from xt.config.training import OptimConfig, TrainConfig
from xt.data.sources import CocoSource, FolderSource, INaturalistSource, SceneSource, Source, TableSource
from xt.data.xview3 import ATTRIBUTES, NODATA
from xt.errors import ConfigError
from xt.recipes import read
from xt.tasks import TASKS
from xt.tasks.classification import ClassificationLabels
from xt.tasks.multilabel import MultiLabelLabels
from xt.tasks.regression import Regression

MODEL = "model:\n  encoder: convnext_atto\n"


def _yaml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


def test_yaml_and_command_line(tmp_path: Path) -> None:
    path = _yaml(
        tmp_path,
        MODEL + "  pixel_mean: [0.1, 0.2, 0.3]\n  encoder_options: {depths: [1, 1]}\n"
        "labels:\n  label_columns: [a, b]\ndata:\n  augmentation:\n    brightness: 0.2\n"
        "optim:\n  lr: 3e-4\ntrain:\n",
    )
    config = load_config(
        path, ["--optim.lr=1e-2", "--train.epochs", "3", "--model.encoder_options.dims=[8, 16]"]
    )
    assert config.optim.lr == 0.01
    assert config.train == TrainConfig(epochs=3)
    assert config.labels.label_columns == ("a", "b")
    assert config.data.augmentation.brightness == 0.2
    assert list(config.model.pixel_mean or ()) == [0.1, 0.2, 0.3]
    assert config.model.encoder_options == {"depths": [1, 1], "dims": [8, 16]}
    # PyYAML reads 3e-4 as a text; it is a number nevertheless.
    assert load_config(path).optim.lr == 3e-4


def test_there_and_back(tmp_path: Path) -> None:
    config = load_config(
        _yaml(tmp_path, MODEL + "labels:\n  class_names: ['no', 'yes', '3']\n"), ["--train.devices=2"]
    )
    assert load_config(_yaml(tmp_path, config_to_yaml(config))) == config
    assert config_from_dict(json.loads(json.dumps(config_to_dict(config)))) == config


WORDS = [
    "no", "yes", "on", "off", "true", "False", "null", "~", "1e3", "08", "007", "0x1F", "1_000", "2020-01-01", "1.5",
    ".inf", "12:30:45", "NaN", "y", "=",
]  # fmt: skip


@pytest.mark.parametrize("words", [WORDS, ["no", "yes"]])
def test_names_of_classes_are_the_words_that_stand_there(tmp_path: Path, words: list[str]) -> None:
    listed = f"[{', '.join(words)}]"
    path = _yaml(
        tmp_path,
        MODEL
        + f"data:\n  table: t.csv\n  train_split: 1\nlabels:\n  class_names: {listed}\n  label_columns: [no]\n",
    )
    config = load_config(path)
    assert config.labels.class_names == tuple(words)
    assert (config.labels.label_columns, config.data.train_split) == (("no",), "1")
    assert load_config(
        _yaml(tmp_path, MODEL), [f"--labels.class_names={listed}"]
    ).labels.class_names == tuple(words)
    assert load_config(_yaml(tmp_path, MODEL), ["--labels.class_names", listed]).labels.class_names == tuple(
        words
    )
    assert load_config(_yaml(tmp_path, config_to_yaml(config))) == config
    text = MODEL + "labels:\n  class_names:\n" + "".join(f"    - {word}\n" for word in words)
    assert load_config(_yaml(tmp_path, text)).labels.class_names == tuple(words)
    text = MODEL + f"  num_classes: {len(words)}\n  class_names: {listed}\n"
    assert tuple(load_config(_yaml(tmp_path, text)).model.class_names or ()) == tuple(words)


def test_nothing_stays_nothing_and_numbers_stay_numbers(tmp_path: Path) -> None:
    text = (
        MODEL + "  head: segmentation\ndata: {table: t.csv, folder: ~, coco: [], root: }\n"
        "labels: {class_names: null, mask_values: [0, 255]}\ntrain: {max_seconds: null}\n"
    )
    config = load_config(_yaml(tmp_path, text))
    assert (config.labels.class_names, config.data) == (None, TableSource(table="t.csv"))
    assert (config.labels.mask_values, config.train.max_seconds) == ((0, 255), None)
    assert (
        load_config(
            _yaml(tmp_path, MODEL), ["--model.head=detection", "--data.images=[]", "--data.coco=a.json"]
        ).data.images
        == ()
    )


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
def test_files_with_byte_order_marks(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "run.yaml").write_bytes((MODEL + "labels:\n  class_names: [\u00e4, b]\n").encode(encoding))
    assert load_config(tmp_path / "run.yaml").labels.class_names == ("\u00e4", "b")


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("optm:\n  lr: 1\n", [], r"run\.yaml: unknown key 'optm'; did you mean 'optim'\?"),
        ("optim:\n  lrr: 1\n", [], r"run\.yaml: unknown key 'optim\.lrr'; did you mean 'optim\.lr'\?"),
        ("train:\n  lr: 1\n", [], r"unknown key 'train\.lr'; did you mean 'optim\.lr'\?"),
        (
            "data:\n  augmentation:\n    brigthness: 1\n",
            [],
            r"'data\.augmentation\.brigthness'; did you mean 'data\.augmentation\.brightness'\?",
        ),
        ("qqqqqq: 1\n", [], r"the sections are model, data, labels, optim, train, evaluation, compare"),
        (
            "",
            ["--optim.lrr=1"],
            r"the command line: unknown key 'optim\.lrr'; did you mean 'optim\.lr'\?",
        ),
        ("", ["--epochs=1"], r"unknown key 'epochs'; did you mean 'train\.epochs'\?"),
        ("", ["--model.context_option.x=1"], r"unknown key 'model\.context_option\.x'"),
        ("optim:\n  lr: fast\n", [], r"run\.yaml: optim\.lr must be a number, got 'fast'"),
        ("", ["--optim.lr=fast"], r"the command line: optim\.lr must be a number, got 'fast'"),
        (
            "train:\n  out:\n",
            [],
            r"run\.yaml: train\.out must be a text, got nothing \(null\); leave the line out",
        ),
        (
            "data:\n  view: null\n",
            [],
            r"data\.view must be one of whole, downsample, crop, got nothing \(null\)",
        ),
        ("train:\n  epochs: 2.5\n", [], r"train\.epochs must be a whole number, got '2\.5'"),
        ("data:\n  view: half\n", [], r"data\.view must be one of whole, downsample, crop, got 'half'"),
        (
            "labels:\n  label_columns: 3\n",
            [],
            r"labels\.label_columns must be a list, each a text, got '3'; put such a text into quotes",
        ),
        ("labels:\n  class_names: [a, [b]]\n", [], r"class_names must be a list, each a text"),
        ("labels:\n  class_names: [1, 1.0]\n", [], r"class_names must be different from each other"),
        ("labels:\n  class_names: [a, '']\n", [], r"labels\.class_names must not be empty"),
        ("", ["--train.keep=much"], r"train\.keep must be one of .* or a whole number, got 'much'$"),
        (
            "train: {seed: 1}\ntrain: {epochs: 3}\n",
            [],
            r"run\.yaml is not valid YAML: 'train' is there twice",
        ),
        ("optim:\n  lr: 1\n  warmup: 0\n  lr: 2\n", [], r"'lr' is there twice; put together .* line \d"),
        ("train:\n  max_seconds: long\n", [], r"train\.max_seconds must be a number or nothing \(null\)"),
        ("optim: 3\n", [], r"run\.yaml: optim must be a section with keys such as 'lr', got 3"),
        (
            "data:\n  augmentation: strong\n",
            [],
            r"data\.augmentation must be a section with keys such as 'flips'",
        ),
        ("- 1\n", [], r"run\.yaml: expected sections such as 'model:' and 'data:', got list"),
        ("a: [\n", [], r"run\.yaml is not valid YAML: "),
        ("optim:\n  lr: -1\n", [], r"run\.yaml: optim\.lr must be > 0, got -1\.0"),
        (
            "",
            ["--optim.layer_decay=1.5"],
            r"the command line: optim\.layer_decay must be in \(0, 1\], got 1\.5",
        ),
        ("data:\n  table: a.csv\n  folder: b\n", [], r"data\.table and data\.folder were both given"),
        ("", ["positional"], r"the command line: .*positional"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, text: str, overrides: list[str], message: str) -> None:
    text = text if text.startswith(("-", "a:")) else MODEL + text
    with pytest.raises(ConfigError, match=message):
        load_config(_yaml(tmp_path, text), overrides)


def test_the_region_encoder_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run\.yaml: model\.encoder is missing"):
        load_config(_yaml(tmp_path, "train:\n  epochs: 3\n"))
    assert (
        load_config(_yaml(tmp_path, ""), ["--model.encoder=convnext_atto"]).model.encoder == "convnext_atto"
    )


def test_keep_takes_words_and_bytes(tmp_path: Path) -> None:
    path = _yaml(tmp_path, MODEL)
    assert load_config(path, ["--train.keep=auto"]).train.keep == "auto"
    assert load_config(path, ["--train.keep=1000000"]).train.keep == 1_000_000
    with pytest.raises(ConfigError, match=r"train\.keep must be one of auto, none, all or a whole number"):
        load_config(path, ["--train.keep=some"])


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: there is no such configuration file"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        (ClassificationLabels, {"label_columns": ()}, r"labels\.label_columns must name at least one column"),
        (MultiLabelLabels, {"label_separator": ""}, r"labels\.label_separator must be a non-empty text"),
        (
            MultiLabelLabels,
            {"label_separator": ";", "label_columns": ("a", "b")},
            r"one label column only, got ';' with columns a, b",
        ),
        (ClassificationLabels, {"class_names": ("a", "a")}, r"labels\.class_names must be different"),
        (
            Source,
            {"validation_fraction": 0.5, "test_fraction": 0.5},
            r"must leave images for training \(below 1\), got 0\.5 \+ 0\.5",
        ),
        (Source, {"crops": 0}, r"data\.crops must be >= 1, got 0"),
        (OptimConfig, {"betas": (0.9, 1.0)}, r"optim\.betas must be in \[0, 1\), got 1\.0"),
        (OptimConfig, {"warmup": 1.0}, r"optim\.warmup must be in \[0, 1\), got 1\.0"),
        (TrainConfig, {"batch_size": 0}, r"train\.batch_size must be >= 1, got 0"),
        (TrainConfig, {"max_seconds": 0.0}, r"train\.max_seconds must be > 0, got 0\.0"),
        (TrainConfig, {"gradient_fraction": 0.0}, r"train\.gradient_fraction must be in \(0, 1\], got 0\.0"),
        (TrainConfig, {"devices": 0}, r"train\.devices must be >= 1, got 0"),
        (CompareConfig, {"budget": "seconds"}, r"compare\.seconds is needed with compare\.budget 'seconds'"),
        (CompareConfig, {"seconds": 3.0}, r"has no meaning with 'passes'"),
        (CompareConfig, {"contestants": ("xt", "xt")}, r"compare\.contestants must be different"),
    ],
)
def test_ranges(section: type, values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        section(**values)


@pytest.mark.parametrize("section", [part for name in sections() for part in variants(name).values()])
def test_configurations_are_frozen_keyword_only_and_documented(section: type) -> None:
    with pytest.raises(TypeError):
        section("positional")
    assert section.__dataclass_params__.frozen
    about = documented(section)
    assert all(about[item.name] for item in dataclasses.fields(section))


@pytest.mark.parametrize("head", ["classification", "segmentation", "points"])
def test_the_example_configurations_are_valid(head: str) -> None:
    config = load_config(head, ["--data.table=slides.csv"])
    assert config.model.head == head
    # Everything the example says is a key, and nothing it says is only a comment's promise.
    assert set(yaml.safe_load(read(head))) <= {item.name for item in dataclasses.fields(RunConfig)}
    assert config.model.encoder


def test_the_recipe_for_xview3_fits_together() -> None:
    config = load_config("xview3")
    assert set(yaml.safe_load(read("xview3"))) <= {item.name for item in dataclasses.fields(RunConfig)}
    model, data = config.model, config.data
    assert model.in_channels == len(data.scene_channels)
    assert model.head_options["attributes"].keys() == set(ATTRIBUTES)
    # What the region encoder sees is cut into whole windows of 16 cells at each stage.
    assert (model.region_size + 2 * model.halo) % (16 * 32) == 0
    assert data.augmentation.train_size % model.region_size == 0
    assert data.nodata == NODATA


@pytest.mark.parametrize(
    "given", [["--data.coco", "a=b.json"], ["--data.coco=a=b.json"], ["--data.coco=[a=b.json]"]]
)
def test_a_list_of_one_text_needs_no_brackets_on_the_command_line(tmp_path: Path, given: list[str]) -> None:
    path = _yaml(tmp_path, MODEL + "data:\n  images: [pictures, others]\n")
    config = load_config(path, given)
    assert config.data.coco == ("a=b.json",)
    assert config.data.images == ("pictures", "others")


@pytest.mark.parametrize(
    ("typed", "source"),
    [
        (["--data.table=t.csv"], TableSource(table="t.csv")),
        (["--data.kind=table", "--data.table=t.csv"], TableSource(table="t.csv")),
        (["--data.folder", "f"], FolderSource(folder="f")),
        (["--data.table=t.csv", "--data.folder=f", "--data.table=null"], FolderSource(folder="f")),
        (["--data.inaturalist=f", "--data.inaturalist_classes=Aves"],
         INaturalistSource(inaturalist="f", inaturalist_classes=("Aves",))),
        (["--model.head=detection", "--data.coco=a.json"], CocoSource(coco=("a.json",))),
        (["--model.head=points", "--data.scenes=s", "--data.scene_labels=a.csv"],
         SceneSource(scenes="s", scene_labels=("a.csv",), nodata=NODATA)),
        (["--data.nodata=0"], Source(nodata=0.0)),
    ],
)  # fmt: skip
def test_the_source_follows_from_the_field_that_says_where_it_is(
    tmp_path: Path, typed: list[str], source: Source
) -> None:
    config = load_config(_yaml(tmp_path, MODEL), typed)
    assert config.data == source
    assert load_config(_yaml(tmp_path, config_to_yaml(config))) == config


@pytest.mark.parametrize("task", TASKS)
def test_labels_and_evaluation_are_those_of_the_head_s_task(tmp_path: Path, task: str) -> None:
    config = load_config(_yaml(tmp_path, MODEL), [f"--model.head={task}"])
    assert type(config.labels) is TASKS[task].Labels
    assert type(config.evaluation) is TASKS[task].Evaluation
    assert load_config(_yaml(tmp_path, config_to_yaml(config))) == config


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        (
            "  head: points\nlabels: {mask_column: m}\n",
            [],
            r"run\.yaml: labels\.mask_column is for 'segmentation', but model\.head is 'points'; "
            r"did you mean 'labels\.points_column'\?",
        ),
        (
            "",
            ["--labels.label_separator=;"],
            r"the command line: labels\.label_separator is for 'multilabel', but model\.head is 'classification'",
        ),
        (
            "  head: points\n",
            ["--evaluation.max_detections=[1, 2, 3]"],
            r"is for 'detection', but model\.head is",
        ),
        (
            "",
            ["--evaluation.distance=3"],
            r"evaluation\.distance is for 'points', but model\.head is 'classif",
        ),
        # Where configurations of before had them.
        (
            "  head: segmentation\n",
            ["--data.mask_column=m"],
            r"the command line: unknown key 'data\.mask_column'; did you mean 'labels\.mask_column'\?",
        ),
        (
            "data: {label_columns: [a]}\n",
            [],
            r"'data\.label_columns'; did you mean 'labels\.label_columns'\?",
        ),
        ("data: {class_names: [a]}\n", [], r"'data\.class_names'; did you mean 'labels\.class_names'\?"),
        (
            "data: {boxes_column: a}\n",
            [],
            r"'data\.boxes_column'; did you mean 'labels\.boxes_column' \(of detection\)\?",
        ),
        (
            "data: {table: t.csv, images: [a]}\n",
            [],
            r"data\.images is for data of the kind 'coco', but data\.kind is",
        ),
        ("data: {folder: f, image_column: a}\n", [], r"data\.image_column is for data of the kind 'table'"),
        (
            "data: {folder: f}\n",
            ["--data.root=a"],
            r"the command line: data\.root is for data of the kind 'table'",
        ),
        ("", ["--data.image_column=a"], r"is for data of the kind 'table', but data\.table is missing"),
        ("", ["--data.inaturalist_classes=Aves"], r"'inaturalist', but data\.inaturalist is missing"),
        ("  head: points\ndata: {scenes: s}\n", [], r"run\.yaml: data\.scene_labels is missing"),
        ("data: {kind: table}\n", [], r"run\.yaml: data\.table is missing"),
        (
            "data: {kind: tabel}\n",
            [],
            r"data\.kind must be one of table, folder, coco, scenes, inaturalist, got 'tabel' \(did you mean 'table'",
        ),
        (
            "data: {kind: folder, table: t.csv}\n",
            [],
            r"data\.table is for data of the kind 'table', but data\.kind is 'folder'",
        ),
        ("data: {kind: [a]}\n", [], r"data\.kind must be one of"),
        (
            "data: {table: t.csv}\n",
            ["--data.folder=f"],
            r"command line: data\.table and data\.folder were both given",
        ),
        (
            "  head: points\ndata: {scenes: s, scene_labels: [a.csv]}\nlabels: {points_column: p}\n",
            [],
            r"labels\.points_column says where a table has its labels, but data\.scenes brings its own: leave it out",
        ),
        ("  head: classfication\n", [], r"run\.yaml: unknown head 'classfication' \(did you mean"),
        ("", ["--model.head=segmentaton"], r"the command line: unknown head 'segmentaton'"),
        ("train: {epochs: true}\n", [], r"train\.epochs must be a whole number, got 'True'"),
        ("", ["--train.epochs"], r"the command line: train\.epochs has no value"),
        ("", ["--data=t.csv"], r"the command line: data is a section: expected a key of it"),
        ("optim: {betas: [0.9]}\n", [], r"optim\.betas must be a list, each a number, got '\[0\.9\]'"),
    ],
)
def test_what_has_no_meaning_cannot_be_written_down(
    tmp_path: Path, text: str, overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(_yaml(tmp_path, MODEL + text), overrides)


def test_options_of_parts_are_set_one_by_one_or_all_together(tmp_path: Path) -> None:
    path = _yaml(tmp_path, MODEL + "  head_options: {label_smoothing: 0.3}\n")
    one = load_config(path, ["--model.head_options.dropout=1e-1"]).model.head_options
    assert one == {"label_smoothing": 0.3, "dropout": 0.1}
    assert load_config(path, ["--model.head_options={dropout: 0.1}"]).model.head_options == {"dropout": 0.1}


def test_the_help_has_every_key_once_for_each_of_its_meanings() -> None:
    text = format_keys("xt train CONFIG")
    for name in all_keys():
        assert f"--{name} " in text
    assert text.count("--data.image_column") == text.count("--train.epochs ") == 1
    assert "labels of points:" in text
    assert "data of table:" in text
    assert max(map(len, text.splitlines())) < 100


def test_a_task_of_one_s_own_brings_its_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class HerdLabels(ClassificationLabels):
        """Herds."""

        herd_column: str = "herd"
        """Column of the herds."""

    class Herds(Regression):
        name = "herds"
        Labels = HerdLabels

    with pytest.raises(ConfigError, match=r"unknown key 'labels\.herd_column'"):
        load_config(_yaml(tmp_path, MODEL), ["--labels.herd_column=h"])
    monkeypatch.setitem(registry._registered["tasks"], "herds", Herds)
    config = load_config(_yaml(tmp_path, MODEL), ["--model.head=herds", "--labels.herd_column=h"])
    assert config.labels == HerdLabels(herd_column="h")
    assert load_config(_yaml(tmp_path, config_to_yaml(config))) == config
    with pytest.raises(ConfigError, match=r"labels\.herd_column is for 'herds', but model\.head is 'points'"):
        load_config(_yaml(tmp_path, MODEL), ["--model.head=points", "--labels.herd_column=h"])
    assert "--labels.herd_column TEXT" in format_keys("xt train CONFIG")
    # A package that is broken breaks no other configuration.
    monkeypatch.setitem(registry._registered["tasks"], "broken", int)
    assert load_config(_yaml(tmp_path, MODEL)).model.head == "classification"
    with pytest.raises(ConfigError, match="a task is a class derived from"):
        load_config(_yaml(tmp_path, MODEL), ["--model.head=broken"])


def test_what_is_missing_is_named_whatever_else_is_there(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("data: {table: slides.csv}\nlabels: {label_columns: [grade]}\n")
    with pytest.raises(ConfigError, match=r"model\.encoder is missing"):
        load_config(path)
    path.write_text("data: {table: slides.csv}\nmodel: {encodr: convnext_atto}\n")
    with pytest.raises(ConfigError, match=r"unknown key 'model\.encodr'; did you mean 'model\.encoder'"):
        load_config(path)
