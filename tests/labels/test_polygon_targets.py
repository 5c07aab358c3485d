"""Masks and boxes from polygons: classes, order, what is unlabelled, where they lie, and tables of them."""

import gc
import json
import pickle
import tracemalloc
import warnings

import geopandas
import numpy as np
import pytest
import shapely
import tifffile

import xt
from tests.labels.formats.test_point_files import PLAIN, UTM, MapImage
from xt.data.dataset import Reading
from xt.data.dense_dataset import DenseDataset, check_labelled, open_labelled
from xt.data.dense_table import read_box_table, read_mask_table
from xt.errors import ConfigError, DataWarning, TableError
from xt.labels.formats import polygon_files
from xt.labels.formats.polygon_files import PolygonFiles
from xt.labels.label_places import MaskPlaces
from xt.labels.labelled import ImageWithMask
from xt.labels.polygon_targets import PolygonBoxes, PolygonTarget

READING = Reading(region_size=64)
IMAGE = MapImage(UTM)


def box(y0, x0, y1, x1, name=None, holes=(), **properties):
    rings = [
        list(map(list, shapely.box(x, y, X, Y).exterior.coords)) for y, x, Y, X in ((y0, x0, y1, x1), *holes)
    ]
    classification = {} if name is None else {"classification": {"name": name, "color": [1, 2, 3]}}
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": rings},
        "properties": {"objectType": "annotation", **classification, **properties},
    }


def write(path, *features, **members):
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(features), **members}))
    return path


def mask(path, names=("a", "b"), image=PLAIN, **options):
    return PolygonTarget(path, PolygonFiles(options.pop("class_column", None)), names, **options).on(image)


def test_classes_holes_and_what_is_not_covered(tmp_path):
    path = write(
        tmp_path / "q.geojson", box(10, 20, 50, 60, "a", [(20, 30, 30, 40)]), box(15, 25, 25, 35, "b")
    )
    expected = np.full((80, 120), 255, np.uint8)
    expected[10:50, 20:60] = 0
    expected[20:30, 30:40] = 255
    expected[15:25, 25:35] = 1
    np.testing.assert_array_equal(mask(path).read(0, 0, 80, 120)[..., 0], expected)
    expected[expected == 255] = 1
    np.testing.assert_array_equal(mask(path, unlabelled="b").read(0, 0, 80, 120)[..., 0], expected)


def test_which_lies_on_top(tmp_path):
    path = write(tmp_path / "q.geojson", box(15, 25, 25, 35, "b"), box(10, 20, 50, 60, "a"))
    assert mask(path).read(20, 30, 1, 1).item() == 1
    assert mask(path, order="file").read(20, 30, 1, 1).item() == 0


def test_nothing_is_known_inside_of_what_has_no_class_or_is_ignored_by_qupath(tmp_path):
    path = write(tmp_path / "q.geojson", box(0, 0, 10, 10, "a"), box(2, 2, 4, 4), box(6, 6, 8, 8, "Ignore*"))
    with pytest.warns(
        DataWarning,
        match=r"q\.geojson: 1 of its 3 objects have no class, such as number 1 .*nothing is known where",
    ):
        drawn = mask(path, unlabelled="b")
    for y, x, number in ((1, 1, 0), (3, 3, 255), (7, 7, 255), (20, 20, 1)):
        assert drawn.read(y, x, 1, 1).item() == number
    with pytest.warns(DataWarning, match="have no class"):
        assert mask(path, ("a", "Ignore*")).read(7, 7, 1, 1).item() == 1


def test_a_file_without_classes_is_of_the_only_one(tmp_path):
    path = write(tmp_path / "q.geojson", box(0, 0, 10, 10))
    assert mask(path, ("ground", "building"), unlabelled="ground").read(5, 5, 1, 40)[
        0, [0, 30], 0
    ].tolist() == [1, 0]
    with pytest.raises(
        TableError, match=r"none of its 1 objects has a class, and there are 'ground', 'building'"
    ):
        mask(path, ("ground", "building"))
    with pytest.raises(TableError, match=r"unknown label 'tree' \(row 1\); the model knows 'a', 'b'"):
        mask(write(path, box(0, 0, 10, 10, "a"), box(0, 0, 10, 10, "tree")))


def test_on_a_map_in_any_system(tmp_path):
    """Of a field of 20 x 30 pixels at (10, 20); heights and a neighbour beyond the image do no harm."""
    corners = [(20, 10), (50, 10), (50, 30), (20, 30)]
    field = shapely.Polygon([(UTM[2] + 0.5 * x, UTM[5] - 0.5 * y, 7.0) for x, y in corners])
    far = shapely.transform(field, lambda places: places + 5000, include_z=True)
    frame = geopandas.GeoDataFrame({"class": ["a", "b"]}, geometry=[field, far], crs=32616)
    expected = np.full((80, 120), 255)
    expected[10:30, 20:50] = 0
    systems = {"gpkg": 32616, "shp": 4326, "fgb": 3857, "geojson": 4326, "parquet": 32616, "gml": 32617}
    for name, crs in systems.items():
        path, table = tmp_path / f"a.{name}", frame.to_crs(crs)
        table.to_parquet(path) if name == "parquet" else table.to_file(path)
        drawn = mask(path, image=IMAGE)
        assert drawn.polygons.count == 1
        np.testing.assert_array_equal(drawn.read(0, 0, 80, 120)[..., 0], expected, err_msg=name)
        assert drawn.location == IMAGE.location
    # Of KML the class is what somebody says it is.
    frame.iloc[:1].rename(columns={"class": "Name"}).to_crs(4326).to_file(tmp_path / "a.kml")
    drawn = mask(tmp_path / "a.kml", image=IMAGE, class_column="Name")
    np.testing.assert_array_equal(drawn.read(0, 0, 80, 120)[..., 0], expected)


def test_other_geometries_and_polygons_beside_the_image_are_refused(tmp_path):
    path = write(tmp_path / "q.geojson", box(0, 0, 10, 10, "a"), box(100, 20, 110, 30, "b"))
    message = r"q\.geojson: the polygon y=100 to 110, x=20 to 30 \(feature 1, counted from 0\) lies outside of array"
    with pytest.raises(TableError, match=message):
        mask(path)
    point = {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [1, 2]},
        "properties": {"class": "a"},
    }
    with pytest.raises(
        TableError, match=r"feature 1 \(counted from 0\) is a Point, but polygons are expected: take it"
    ):
        mask(write(path, box(0, 0, 10, 10, "a"), point))
    with pytest.raises(TableError, match=r"none\.gpkg: there is no such file of points or polygons"):
        mask(tmp_path / "none.gpkg")


def test_what_reaches_beyond_the_image_is_cut_and_counts_from_where_qupath_does(tmp_path):
    class Scanned(type(PLAIN)):
        qupath_origin = (30, 40)

    image = Scanned(np.zeros((80, 120), np.uint8))
    path = write(tmp_path / "q.geojson", box(-5, 10, 100, 20, "a"))
    drawn = mask(path, image=image).read(0, 0, 80, 120)[..., 0]
    assert (drawn[25:, 50:60] == 0).all()
    assert (drawn == 0).sum() == 55 * 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"unlabelled": "c"},
            r"labels\.unlabelled must be one of the classes \(a, b\) or 'ignored', got 'c' for .*q\.geojson",
        ),
        ({"order": "size"}, r"labels\.polygon_order must be one of area, file, got 'size'"),
        ({"names": tuple(map(str, range(256)))}, r"a mask has 255 classes at most, got 256 for"),
    ],
)
def test_settings_that_cannot_be(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        mask(write(tmp_path / "q.geojson", box(0, 0, 1, 1, "a")), **options)


def test_turned_cut_and_drawn_from_like_any_mask(tmp_path):
    path = write(tmp_path / "q.geojson", box(10, 20, 50, 60, "a"), box(70, 100, 72, 110, "b"))
    image, drawn = PLAIN, mask(path, ("a", "b", "c"), unlabelled="c")
    whole = drawn.read(0, 0, 80, 120)
    np.testing.assert_array_equal(drawn.flip("x").rotate(1).read(0, 0, 120, 80), np.rot90(whole[:, ::-1]))
    pair = ImageWithMask(image, drawn).crop(5, 15, 70, 100)
    np.testing.assert_array_equal(pair.target.read(0, 0, 70, 100), whole[5:75, 15:115])
    places = MaskPlaces(drawn, 3)
    assert places.totals.tolist() == [1600, 20, 80 * 120 - 1620]
    y, x = places.draw(drawn, np.random.default_rng(0))
    assert whole[int(y), int(x)] in (0, 1)


def test_what_was_made_is_kept_while_there_is_room(tmp_path, monkeypatch):
    path = write(tmp_path / "q.geojson", box(0, 0, 10, 10, "a"))
    target = PolygonTarget(path, PolygonFiles(), ("a", "b"))
    first = target.on(PLAIN).polygons
    assert target.on(PLAIN).polygons is first
    assert target.on(IMAGE).polygons is not first
    again = pickle.loads(pickle.dumps(target))
    assert again.on(PLAIN).read(5, 5, 1, 1).item() == 0
    monkeypatch.setattr(polygon_files, "_MOST_CORNERS", 3)
    small = PolygonTarget(path, PolygonFiles(), ("a", "b"))
    assert small.on(PLAIN).polygons is small.on(PLAIN).polygons
    small.on(IMAGE)
    assert len(small.files._kept) == 1


def slides(folder, features, split=("train", "val"), header="image,mask,split", further=("", "")):
    rows = [header]
    for name, extra in zip(split, further, strict=True):
        tifffile.imwrite(folder / f"{name}.tif", np.zeros((80, 120, 3), np.uint8))
        write(folder / f"{name}.geojson", *features)
        rows.append(f"{name}.tif,{name}.geojson,{name}{extra}")
    (folder / "t.csv").write_text("\n".join(rows) + "\n")
    return folder / "t.csv"


def test_tables_take_names_from_the_polygons(tmp_path):
    features = [box(0, 0, 10, 10, "Tumor"), box(20, 20, 30, 30, "Stroma"), box(40, 40, 50, 50, "Ignore*")]
    table = slides(tmp_path, features)
    assert read_mask_table(table).class_names == ("Stroma", "Tumor")
    masks = read_mask_table(table, unlabelled="background")
    assert masks.class_names == ("background", "Stroma", "Tumor")
    pair = DenseDataset(masks, READING)[0].pair
    assert [pair.target.read(y, y, 1, 1).item() for y in (5, 25, 45, 60)] == [2, 1, 255, 0]
    pair.close()
    assert check_labelled(masks, READING) is None
    assert read_mask_table(table, class_names=("Tumor", "Stroma")).class_names == ("Tumor", "Stroma")
    with pytest.raises(
        TableError, match=r"all polygons are of one class, 'Tumor', and nothing is known between them"
    ):
        read_mask_table(slides(tmp_path, features[:1]))
    with pytest.raises(
        TableError, match=r"of one class, 'polygon'.*labels\.unlabelled: background; .*labels\.label_columns"
    ):
        read_mask_table(slides(tmp_path, [box(0, 0, 10, 10)]))
    assert read_mask_table(slides(tmp_path, [box(0, 0, 9, 9)]), unlabelled="0").class_names == (
        "0",
        "polygon",
    )


def test_a_column_polygons_and_a_row_s_own_word_for_what_is_unlabelled(tmp_path):
    features = [box(0, 0, 10, 10, "a"), box(20, 20, 30, 30, "b")]
    header = "image,polygons,split,unlabelled"
    table = slides(tmp_path, features, header=header, further=(",rest", ",ignored"))
    masks = read_mask_table(table)
    assert masks.class_names == ("rest", "a", "b")
    found = []
    for place in range(2):
        pair = open_labelled(masks, place, READING)
        found.append(pair.target.read(60, 60, 1, 1).item())
        pair.close()
    assert found == [0, 255]


def test_tables_of_both_kinds_and_settings_without_effect(tmp_path):
    table = slides(tmp_path, [box(0, 0, 10, 10, "a"), box(20, 20, 30, 30, "b")])
    for options in ({"values": (0, 1)}, {"nodata": 0}):
        with pytest.raises(
            ConfigError, match=r"labels\.mask_values and labels\.mask_nodata are for masks of pixels, but all"
        ):
            read_mask_table(table, **options)
    tifffile.imwrite(tmp_path / "m.tif", np.zeros((80, 120), np.uint8))
    with table.open("a") as file:
        file.write("val.tif,m.tif,test\n")
    with pytest.raises(
        TableError, match=r"some of its masks are polygons with names, others rasters of numbers: say by"
    ):
        read_mask_table(table)
    masks = read_mask_table(table, class_names=("a", "b"), unlabelled="b")
    pair = open_labelled(masks, 2, READING)
    assert pair.target.read(0, 0, 1, 1).item() == 0
    pair.close()
    (tmp_path / "t.csv").write_text("image,mask\nval.tif,m.tif\n")
    with pytest.raises(
        ConfigError, match=r"labels\.unlabelled and labels\.polygon_order are for masks drawn by polygons"
    ):
        read_mask_table(tmp_path / "t.csv", order="file")


def test_polygons_that_lie_on_no_image(tmp_path):
    import rasterio

    profile = {"driver": "GTiff", "height": 9, "width": 9, "count": 1, "dtype": "uint8", "crs": "EPSG:32616"}
    with rasterio.open(tmp_path / "a.tif", "w", transform=rasterio.Affine(*UTM), **profile) as file:
        file.write(np.zeros((1, 9, 9), np.uint8))
    frame = geopandas.GeoDataFrame({"class": ["a"]}, geometry=[shapely.box(0, 0, 9, 9)], crs=32616)
    frame.to_file(tmp_path / "p.gpkg")
    (tmp_path / "t.csv").write_text("image,mask\na.tif,p.gpkg\n")
    with pytest.raises(TableError, match=r"none of the polygons lies on its image; check coordinate systems"):
        check_labelled(read_mask_table(tmp_path / "t.csv", unlabelled="rest"), READING)


def test_boxes_around_polygons(tmp_path):
    several = box(0, 0, 1, 1, "a")
    several["geometry"] = shapely.geometry.mapping(
        shapely.MultiPolygon([shapely.box(5, 6, 7, 8), shapely.box(9, 1, 10, 3)])
    )
    path = write(
        tmp_path / "q.geojson", box(10, 20, 30, 60, "b", [(15, 25, 20, 40)]), several, box(-10, 0, 30, 8, "a")
    )
    boxes = PolygonBoxes(path, PolygonFiles(), ("a", "b"), 3).on(PLAIN)
    assert boxes.edges.tolist() == [[10, 20, 30, 60], [1, 5, 8, 10], [0, 0, 30, 8]]
    assert boxes.labels.tolist() == [1, 0, 0]
    assert boxes.areas.tolist() == [20 * 40 - 5 * 15, 6, 240]
    table = slides(tmp_path, [box(10, 20, 30, 60, "b"), box(0, 0, 3, 3)], header="image,boxes,split")
    with pytest.warns(
        DataWarning, match=r"train\.geojson: 1 of its 2 objects have no class, .*: they are left out"
    ):
        pair = DenseDataset(read_box_table(table), READING)[0].pair
    assert pair.target.edges.tolist() == [[10, 20, 30, 60]]
    pair.close()
    (tmp_path / "t.csv").write_text("image,boxes\nval.tif,val.tif\n")
    with pytest.raises(TableError, match=r"val\.tif in column 'boxes' is no file of polygons"):
        read_box_table(tmp_path / "t.csv")


def test_memory_does_not_grow_with_the_pixels(tmp_path):
    """A window of an image of 10 gigapixels costs what one of a small image costs."""

    def peak(side):
        factor = side / 1000
        features = [box(*(factor * value for value in (10, 20, 50, 60)), "a"), box(0, 0, 1, 1, "b")]
        path = write(tmp_path / f"{side}.geojson", *features)
        image = xt.open_image(np.broadcast_to(np.zeros(1, np.uint8), (side, side)))
        target = PolygonTarget(path, PolygonFiles(), ("a", "b"))
        target.on(image).read(0, 0, 256, 256)
        gc.collect()
        tracemalloc.start()
        drawn = target.on(image)
        for place in range(0, side, side // 8):
            drawn.read(place, place, 256, 256)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert peak(100_000) < 1.2 * peak(1000) + 65536
