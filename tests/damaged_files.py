"""Good files of every kind that `xt` reads besides images, how each is changed, and what reads it."""

import io
import json
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import geopandas
import numpy as np
import pandas as pd
import rasterio
import safetensors.torch
import torch
import yaml
from numpy.random import Generator
from rasterio import Affine
from rasterio.errors import NotGeoreferencedWarning

import xt
from tests.authors import tiny
from tests.mutation import changed, changed_bytes, changed_text
from tests.small_model import small_model
from xt.config.parser import config_from_dict, config_to_dict, load_config
from xt.data.dense_table import read_mask_table, read_point_table
from xt.data.inaturalist import read_inaturalist
from xt.data.label_columns import measures
from xt.data.sources import TableSource
from xt.data.table_files import read_table
from xt.data.xview3 import read_labels
from xt.labels.formats.box_conversion import read_class_names
from xt.labels.formats.coco import read_coco_table
from xt.labels.formats.point_files import read_points
from xt.labels.formats.voc import read_voc
from xt.labels.formats.yolo import read_yolo
from xt.model.config import ModelConfig
from xt.model.weights_file import FORMAT
from xt.tasks.classification import ClassificationLabels
from xt.training.checkpoints import load_trained
from xt.training.preparation import load_encoder
from xt.training.tables import load_splits

CLASSES = ("cell", "nerve")


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        name: of the file.
        good: its content, unchanged.
        changed: its content, changed; the same for the same draws.
        read: what `xt` does with it, where the files it names lie beside it.
    """

    name: str
    good: Callable[[], bytes]
    changed: Callable[[Generator], bytes]
    read: Callable[[Path], object]


def changed_file(kind: str, seed: int, folder: Path) -> Path:
    """Write the changed file of that number into a folder."""
    path = folder / KINDS[kind].name
    path.write_bytes(KINDS[kind].changed(np.random.default_rng(seed)))
    return path


def write_images(folder: Path) -> None:
    """The images that the files name: 40 x 60 pixels, `map.tif` in UTM, and masks of them."""
    for name, where in (
        ("a.tif", None),
        ("b.tif", None),
        ("map.tif", Affine(1, 0, 500000, 0, -1, 5300000)),
        ("m.tif", None),
    ):
        profile: dict[str, Any] = {"driver": "GTiff", "height": 40, "width": 60, "dtype": "uint8"}
        if where is not None:
            profile |= {"crs": "EPSG:32632", "transform": where}
        with (
            warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
            rasterio.open(folder / name, "w", count=1 if name == "m.tif" else 3, **profile) as file,
        ):
            file.write(np.ones((file.count, 40, 60), np.uint8))


COCO = {
    "images": [
        {"id": 1, "file_name": "a.tif", "height": 40, "width": 60},
        {"id": 2, "file_name": "b.tif", "height": 40, "width": 60},
    ],
    "categories": [{"id": 3, "name": "cell"}, {"id": 5, "name": "nerve", "supercategory": "tissue"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 3, "bbox": [5, 6.5, 10, 12], "area": 120.0, "iscrowd": 0},
        {"id": 2, "image_id": 2, "category_id": 5, "bbox": [1, 2, 3, 4], "segmentation": [[1, 2, 4, 2, 4, 6]]},
        {"id": 3, "image_id": 2, "category_id": 3, "bbox": [0, 0, 60, 40], "iscrowd": 1},
    ],
}  # fmt: skip
_RING = [[500010, 5299990], [500020, 5299990], [500020, 5299980], [500010, 5299990]]
GEOJSON = {
    "type": "FeatureCollection",
    "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32632"}},
    "features": [
        {"type": "Feature", "properties": {"class": "cell", "length": 3.5},
         "geometry": {"type": "Point", "coordinates": [500030.5, 5299980.5]}},
        {"type": "Feature", "properties": {"class": "nerve"}, "geometry": {"type": "Polygon", "coordinates": [_RING]}},
        {"type": "Feature", "properties": {"class": "cell"},
         "geometry": {"type": "MultiPolygon", "coordinates": [[_RING], [_RING]]}},
    ],
}  # fmt: skip
_HOLE = [[500012, 5299988], [500016, 5299988], [500016, 5299985], [500012, 5299988]]
POLYGONS = GEOJSON | {
    "features": [
        {"type": "Feature", "properties": {"class": "cell"},
         "geometry": {"type": "Polygon", "coordinates": [_RING, _HOLE]}},
        {"type": "Feature", "properties": {"class": "nerve"},
         "geometry": {"type": "MultiPolygon", "coordinates": [[_RING], [_HOLE]]}},
    ]
}  # fmt: skip
KML = """<?xml version="1.0" encoding="UTF-8"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document><Folder>
<name>a</name><Placemark><ExtendedData><Data name="class"><value>cell</value></Data><Data name="length"><value>2</value>
</Data></ExtendedData><Point><coordinates>9.0001,47.8521,0</coordinates></Point></Placemark></Folder></Document></kml>
"""
QUPATH = {
    "type": "FeatureCollection",
    "features": [
        {"type": "Feature", "id": "0f", "geometry": {"type": "Point", "coordinates": [12.5, 20.25]},
         "properties": {"objectType": "detection", "classification": {"name": "cell", "color": [1, 2, 3]},
                        "measurements": {"area": 12.5, "length": 2}}},
        {"type": "Feature", "geometry": {"type": "MultiPoint", "coordinates": [[3, 4]]},
         "properties": {"objectType": "annotation", "classification": {"name": "nerve"},
                        "measurements": [{"name": "length", "value": 2}]}},
    ],
}  # fmt: skip
INATURALIST = {
    "images": [{"id": 1, "file_name": "train_val2018/a.jpg"}, {"id": 2, "file_name": "train_val2018/b.jpg"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 0}, {"id": 2, "image_id": 2, "category_id": 1}],
    "categories": [
        {"id": 0, "name": "Rana", "supercategory": "Amphibia"}, {"id": 1, "name": "Bufo", "supercategory": "Amphibia"},
    ],
}  # fmt: skip
POINTS = "y,x,label,length\n10,20,cell,3.5\n11.25,21,nerve,\n0.5,59.5,cell,7\n"
TABLE = "image,label,split,size\na.tif,cell,train,1.5\nb.tif,nerve,val,2\nmap.tif,cell,test,3\n"
MASKS = "image,mask,split\na.tif,m.tif,train\nb.tif,m.tif,val\n"
POINT_TABLE = "image,points,split\na.tif,good.csv,train\nb.tif,good.csv,val\n"
XVIEW3 = (
    "detect_lat,detect_lon,vessel_length_m,source,detect_scene_row,detect_scene_column,is_vessel,is_fishing,"
    "distance_from_shore_km,scene_id,confidence,top,left,bottom,right,detect_id\n"
    "4.1,6.2,12.5,ais,10,20,True,False,2.5,a1v,HIGH,1,2,3,4,x1\n4.2,6.3,,manual,11,21,False,,9,b2v,LOW,,,,,x2\n"
)
VOC = """<annotation><folder>f</folder><filename>a.tif</filename><size><width>60</width><height>40</height>
<depth>3</depth></size><object><name>cell</name><difficult>0</difficult><bndbox><xmin>5</xmin><ymin>6</ymin><xmax>15</xmax>
<ymax>18</ymax></bndbox></object><object><name>nerve</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3.5</xmax><ymax>4</ymax></bndbox>
</object></annotation>
"""
YOLO = "0 0.5 0.5 0.25 0.5\n1 0.25 0.75 0.1 0.1\n"
CONFIG = {
    "model": {
        "encoder": "convnext_atto", "encoder_options": {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}, "dim": 32,
        "context": "transformer_xl", "context_options": {"depth": 1, "dropout": 0.1}, "head": "classification",
        "head_options": {"num_heads": 2}, "region_size": 64, "pixel_mean": [0.1, 0.2, 0.3], "pixel_std": [1, 1, 0.5],
        "class_names": ["cell", "nerve"],
    },
    "data": {"table": "t.csv", "augmentation": {"flips": False, "brightness": 0.2}, "nodata": 0,
              "validation_fraction": 0.2},
    "optim": {"lr": 0.001, "betas": [0.9, 0.99]},
    "train": {"out": "runs/a", "epochs": 3, "devices": 1, "checkpoint_every": "5 minutes", "max_seconds": None},
    "labels": {"label_columns": ["label"], "class_names": ["cell", "nerve"]},
    "compare": {"contestants": ["downsample", "xt"]},
}  # fmt: skip


Content = tuple[Callable[[], bytes], Callable[[Generator], bytes]]
"""Of a `Kind`: good and changed."""


def _of_json(value: Any) -> Content:
    return _of_values(value, lambda values: json.dumps(values).encode(), ",:[{")


def _of_yaml(value: Any) -> Content:
    return _of_values(value, lambda values: yaml.safe_dump(values, allow_unicode=True).encode(), ":\n")


def _of_values(value: Any, write: Callable[[Any], bytes], separators: str) -> Content:
    """What the file says is changed; now and then its text."""

    def content(draw: Generator) -> bytes:
        if draw.random() < 0.15:
            return changed_text(write(value).decode(), draw, separators).encode(errors="surrogateescape")
        return write(changed(value, draw))

    return lambda: write(value), content


def _of_text(text: str, separators: str = ",\n") -> Content:
    return text.encode, lambda draw: changed_text(text, draw, separators).encode(errors="surrogateescape")


def _of_bytes(good: Callable[[], bytes]) -> Content:
    return good, lambda draw: changed_bytes(good(), draw)


@cache
def _parquet() -> bytes:
    return bytes(pd.read_csv(io.StringIO(TABLE)).to_parquet())


@cache
def _vector(suffix: str) -> bytes:
    """Two points and their classes, as GDAL writes them."""
    places = geopandas.points_from_xy([500012.5, 500020], [5299990.5, 5299980])
    frame = geopandas.GeoDataFrame(
        {"class": list(CLASSES), "length": [1.5, 2]}, geometry=places, crs="EPSG:32632"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a{suffix}")
        if suffix == ".parquet":
            frame.to_parquet(path)
        else:
            frame.to_file(path)
        return path.read_bytes()


@cache
def _model() -> Any:
    return small_model(context_options={"depth": 1})


@cache
def _safetensors() -> bytes:
    return _saved({"format": FORMAT, "config": json.dumps(asdict(_model().config))})


def _saved(metadata: Mapping[str, str]) -> bytes:
    return safetensors.torch.save(
        {name: value.contiguous() for name, value in _model().state_dict().items()}, metadata
    )


def _model_of_changed_config(draw: Generator) -> bytes:
    return _saved(
        {
            "format": FORMAT,
            "config": json.dumps(changed(json.loads(json.dumps(asdict(_model().config))), draw)),
        }
    )


def _changed_checkpoint(draw: Generator) -> bytes:
    stored = _checkpoint_content()
    part = ("xt_config", "xt_config", "state_dict", None)[int(draw.integers(4))]
    changed_content = changed(stored, draw) if part is None else stored | {part: changed(stored[part], draw)}
    return _torch_saved(changed_content)


def _checkpoint_content() -> dict[str, Any]:
    config = config_from_dict({"model": asdict(_model().config)})
    weights = {f"model.{name}": value for name, value in _model().state_dict().items()}
    return {"epoch": 1, "global_step": 2, "state_dict": weights, "xt_config": config_to_dict(config)}


@cache
def _checkpoint() -> bytes:
    return _torch_saved(_checkpoint_content())


@cache
def _authors_weights() -> dict[str, Any]:
    return {"epoch": 7, "state_dict": {f"module.{name}": value for name, value in tiny.swin("none").items()}}


def _torch_saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _read_points(name: str) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        with xt.open_image(path.parent / name) as image:
            return read_points(path, attributes={"length": "number"}).on(image, CLASSES)

    return read


def _read_polygons(path: Path) -> object:
    table = path.with_name(f"{path.name}.csv")
    table.write_text(f"image,mask\nmap.tif,{path.name}\n")
    read = read_mask_table(table)
    with xt.open_image(read.paths[0]) as image, read.targets[0].on(image) as mask:
        return mask.read_valid(0, 0, *image.shape)


def _read_point_table(path: Path) -> object:
    (path.parent / "good.csv").write_text(POINTS)
    return read_point_table(path, class_names=CLASSES)


def _read_voc(path: Path) -> object:
    return read_voc(path.parent, path.parent)


def _read_yolo(path: Path) -> object:
    return read_yolo(path.parent, path.parent, class_names=CLASSES, names=["a"])


def _read_splits(path: Path) -> object:
    return load_splits(TableSource(table=str(path)), ClassificationLabels(), ModelConfig(encoder="none"))


KINDS = {
    "coco": Kind("labels.json", *_of_json(COCO), lambda path: read_coco_table([path])),
    "geojson": Kind("map.geojson", *_of_json(GEOJSON), _read_points("map.tif")),
    "qupath": Kind("objects.geojson", *_of_json(QUPATH), _read_points("a.tif")),
    "polygons": Kind("drawn.geojson", *_of_json(POLYGONS), _read_polygons),
    **{
        name: Kind(f"points{suffix}", *_of_bytes(partial(_vector, suffix)), _read_points("map.tif"))
        for name, suffix in {
            "GeoPackage": ".gpkg",
            "FlatGeobuf": ".fgb",
            "GeoParquet": ".parquet",
            "GML": ".gml",
            "shapefile": ".shz",
        }.items()
    },
    "KML": Kind("points.kml", *_of_text(KML, "<>\n"), _read_points("map.tif")),
    "points": Kind("points.csv", *_of_text(POINTS), _read_points("a.tif")),
    "table": Kind("table.csv", *_of_text(TABLE), _read_splits),
    "numbers": Kind(
        "numbers.csv",
        *_of_text(TABLE),
        lambda path: read_table(path, labels=measures, label_columns=["size"]),
    ),
    "parquet": Kind("table.parquet", *_of_bytes(_parquet), read_table),
    "masks": Kind("masks.csv", *_of_text(MASKS), lambda path: read_mask_table(path, class_names=CLASSES)),
    "point table": Kind("images.csv", *_of_text(POINT_TABLE), _read_point_table),
    "xview3": Kind("validation.csv", *_of_text(XVIEW3), read_labels),
    "voc": Kind("a.xml", *_of_text(VOC, "<>\n"), _read_voc),
    "yolo": Kind("a.txt", *_of_text(YOLO, " \n"), _read_yolo),
    "class list": Kind("names.txt", *_of_text("cell\nnerve\n"), read_class_names),
    "class names": Kind(
        "names.yaml", *_of_yaml({"nc": 2, "names": {0: "cell", 1: "nerve"}}), read_class_names
    ),
    "inaturalist": Kind("train2018.json", *_of_json(INATURALIST), lambda path: read_inaturalist(path.parent)),
    "configuration": Kind("run.yaml", *_of_yaml(CONFIG), load_config),
    "model's configuration": Kind("model.safetensors", _safetensors, _model_of_changed_config, load_trained),
    "model's bytes": Kind("bytes.safetensors", *_of_bytes(_safetensors), load_trained),
    "encoder's bytes": Kind(
        "encoder.safetensors", *_of_bytes(_safetensors), lambda path: load_encoder(_model(), path)
    ),
    "checkpoint": Kind("last.ckpt", _checkpoint, _changed_checkpoint, load_trained),
    "checkpoint's bytes": Kind("bytes.ckpt", *_of_bytes(_checkpoint), load_trained),
    "authors' checkpoint": Kind(
        "authors.pt",
        lambda: _torch_saved(_authors_weights()),
        lambda draw: _torch_saved(changed(_authors_weights(), draw)),
        xt.load_authors_checkpoint,
    ),
}
