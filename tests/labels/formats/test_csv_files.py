"""Tables in every dress in which spreadsheets, GIS and scripts send them out: the same table, or one sentence."""

import json
import re
import warnings

import numpy as np
import pandas as pd
import pytest

from xt.data.dense_table import read_point_table
from xt.data.label_columns import zeros_and_ones
from xt.data.table_files import read_table
from xt.data.xview3 import read_labels
from xt.errors import DataWarning, TableError
from xt.labels.formats.columns import numbers
from xt.labels.formats.csv_files import read_csv
from xt.labels.formats.point_files import read_points

PLAIN = "image,label,split\na.tif,cell,train\nsub/b.tif,glass,val\n"
SEVERAL = [
    ("utf-8 mark", "\ufeff" + PLAIN, "utf-8"),
    ("utf-16", PLAIN, "utf-16"),
    ("utf-16 big", "\ufeff" + PLAIN, "utf-16-be"),
    ("utf-32", PLAIN, "utf-32"),
    ("blanks", "image , label,  split\n a.tif,  cell , train\n\tsub/b.tif ,glass,val \n", "utf-8"),
    ("hard blanks", "image,label,split\na.tif,\u00a0cell,train\nsub/b.tif,glass\u00a0,val\n", "utf-8"),
    ("commas at rows' ends", "image,label,split\na.tif,cell,train,\nsub/b.tif,glass,val,\n", "utf-8"),
    ("several commas", "image,label,split\na.tif,cell,train,,,\nsub/b.tif,glass,val,,\n", "utf-8"),
    ("commas everywhere", "image,label,split,\na.tif,cell,train,\nsub/b.tif,glass,val,\n", "utf-8"),
    ("comma in the first line", "image,label,split,\na.tif,cell,train\nsub/b.tif,glass,val\n", "utf-8"),
    ("empty lines", "\n\nimage,label,split\n\na.tif,cell,train\n,,\n   \nsub/b.tif,glass,val\n,,\n\n", "utf-8"),
    ("windows", PLAIN.replace("\n", "\r\n"), "utf-8"),
    ("old mac", PLAIN.replace("\n", "\r"), "utf-8"),
    ("no last line end", PLAIN.rstrip(), "utf-8"),
    ("semicolons", PLAIN.replace(",", ";"), "utf-8"),
    ("tabs", PLAIN.replace(",", "\t"), "utf-8"),
    ("excel's separator", "sep=;\n" + PLAIN.replace(",", ";"), "utf-8"),
    ("excel's tab", "sep=\t\n" + PLAIN.replace(",", "\t"), "utf-16"),
    ("quotes", '"image","label","split"\n"a.tif", "cell" ,"train"\n"sub/b.tif","glass","val"\n', "utf-8"),
    ("back-slashes", PLAIN.replace("sub/", "sub\\"), "utf-8"),
    ("row numbers", ",image,label,split\n0,a.tif,cell,train\n1,sub/b.tif,glass,val\n", "utf-8"),
    ("comments before", "# drawn by A.\n#\n" + PLAIN, "utf-8"),
    ("the other in a cell", "image;label;split;note\na.tif;cell;train;one, two\nsub/b.tif;glass;val;\n", "utf-8"),
    ("both in the first line", "image,label,split,y;x\na.tif,cell,train,3\nsub/b.tif,glass,val,4\n", "utf-8"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "encoding"), [pair[1:] for pair in SEVERAL], ids=[pair[0] for pair in SEVERAL]
)
def test_one_table_in_every_dress(tmp_path, text, encoding):
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    table = read_table(tmp_path / "t.csv")
    assert table.paths == (tmp_path / "a.tif", tmp_path / "sub/b.tif")
    assert table.class_names == ("cell", "glass")
    assert table.splits == ("train", "val")


def test_a_file_with_a_back_slash_in_its_name_is_found(tmp_path):
    (tmp_path / "a\\b.tif").touch()
    (tmp_path / "t.csv").write_text("image,label\na\\b.tif,x\nc\\d.tif|c\\e.tif,x\n")
    table = read_table(tmp_path / "t.csv")
    assert [str(path.relative_to(tmp_path)) for path in table.paths[:1]] == ["a\\b.tif"]
    assert str(table.paths[1]) == f"{tmp_path}/c/d.tif|{tmp_path}/c/e.tif"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,label\na.tif,x,y\n", r"row 0 \(counted from 0\) has 3 cells, its first line has 2 names: 'a\.tif,x,y'"),
        ("image;label\na.tif;x\nb.tif;x;y\n", r"row 1 .* is there a semicolon in a cell without double quotes"),
        ('image,label\na.tif,x\n"b.tif,y\nc.tif,z\n', r"a double quote is opened near line 3 and never closed"),
        ("image,label,label\na.tif,x,y\n", r"column 'label' twice, with 'x' and 'y' in row 0"),
        ("image,label;b\na.tif,x;1\n", r"first line, 'image,label;b', has commas and semicolons, and the rows do not"),
        ("", "is empty; expected a first line with the columns' names"),
        ("\ufeff\n \n,,\n", "is empty"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(TableError, match=rf"t\.csv.*{message}"):
        read_csv(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "image,label\na.tif,ok\nb.tif,M\u00fcll\n".encode("latin-1"),
            "no text in UTF-8 (byte 0xfc in line 3)",
        ),
        (
            PLAIN.encode("utf-16-le"),
            "holds null bytes (line 1): it is no text, or one in UTF-16 without its mark",
        ),
        (b"PK\x03\x04 and so on", "is an Excel workbook or a ZIP archive"),
        (b"\x1f\x8b\x08", "is compressed by gzip"),
        (b"\xff\xfea", "no text in UTF-16-LE"),
    ],
)
def test_other_files_get_one_sentence(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    for read in (read_csv, read_points, read_table, read_labels):
        with pytest.raises(TableError, match=re.escape(message)):
            read(tmp_path / "t.csv")


def test_what_is_probably_not_meant_is_said(tmp_path):
    (tmp_path / "t.csv").write_text("image,label,label\na.tif,x,x\n")
    with pytest.warns(DataWarning, match="'label' twice, with the same cells"):
        assert read_csv(tmp_path / "t.csv").columns.tolist() == ["image", "label"]
    (tmp_path / "t.csv").write_text('image,label\na.tif,"x\nb.tif,y"\n')
    with pytest.warns(DataWarning, match="a cell of row 0 .* goes over several lines"):
        read_csv(tmp_path / "t.csv")


@pytest.mark.parametrize(
    "text",
    [
        "y,x,length\n10,20,5,\n11,21,6,\n",
        "y,x,length,\n10,20,5,\n11,21,6,\n",
        "y, x, length\n10, 20, 5\n11, 21, 6\n",
        "\ufeffy;x;length\r\n10;20;5\r\n11;21;6\r\n",
        'y\tx\tlength\n"10"\t" 20"\t5.0\n11.0\t2.1e1\t6\t\n',
        "y;x;length\n10,0;20,0;5,0\n11,00;21;6\n",
        'y,x,length\n"10,0","20,0","5,0"\n11,21,6\n',
        ",y,x,length\n0,10,20,5\n1,11,21,6\n",
    ],
)
def test_points_stay_in_their_columns(tmp_path, text):
    (tmp_path / "p.csv").write_bytes(text.encode())
    points = read_points(tmp_path / "p.csv", attributes={"length": "number"})
    assert points.y.tolist() == [10, 11]
    assert points.x.tolist() == [20, 21]
    assert points.attributes["length"].tolist() == [5, 6]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["16", " 16 ", "16.0", "1.6e1", "+16"], [16] * 5),
        (["10,5", "0,25", "1000,125", "-3,5e2", "7"], [10.5, 0.25, 1000.125, -350, 7]),
        # Alone "1,250" could be thousands; beside "1,5" it cannot.
        (["1,250", "1,5"], [1.25, 1.5]),
        (["0,125"], [0.125]),
        ([16, "16", 16.0], [16] * 3),
        (["", "NA", "3"], [np.nan, np.nan, 3]),
    ],
)
def test_numbers_as_people_write_them(cells, values):
    found = numbers(pd.DataFrame({"x": pd.Series(cells, dtype=object)}), "x", "t")
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize(
    ("cells", "row", "shown"),
    [
        (["5", "1,234"], 1, "'1,234'"),
        (["1,234,567"], 0, "'1,234,567'"),
        (["1,5", "2.5"], 0, "'1,5'"),
        (["1.234,56"], 0, "'1.234,56'"),
        (["1_000"], 0, "'1_000'"),
        (["5", "five"], 1, "'five'"),
        (["0x10"], 0, "'0x10'"),
        (["inf"], 0, "'inf'"),
        (["3", "1e400"], 1, "'1e400'"),
        ([[1, 2], "3"], 0, "'[1, 2]'"),
        ([10**400, 3], 0, "'1000"),
        (["1 000"], 0, "'1 000'"),
        (["#10"], 0, "'#10'"),
    ],
)
def test_numbers_that_can_be_read_in_two_ways_are_refused_with_their_row(cells, row, shown):
    frame = pd.DataFrame({"x": pd.Series(cells, dtype=object)})
    with pytest.raises(
        TableError, match=rf"t: column 'x' .*{re.escape(shown)}.* in row {row} \(counted from 0\)"
    ):
        numbers(frame, "x", "t")


def test_classes_are_one_across_files_and_gaps(tmp_path):
    (tmp_path / "a.csv").write_text("y,x,class\n1,1,1\n1,2,2\n")
    (tmp_path / "b.csv").write_text("y;x;class\n1;1;1.0\n1;2; 2\n")
    feature = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 1]}}
    rows = [{**feature, "properties": {"class": value}} for value in (1, 2.0, "1.0")]
    (tmp_path / "c.geojson").write_text(
        "\ufeff" + json.dumps({"type": "FeatureCollection", "features": rows})
    )
    (tmp_path / "t.csv").write_text(
        "image,points\n" + "".join(f"{n}.tif,{n}\n" for n in ("a.csv", "b.csv", "c.geojson"))
    )
    assert read_point_table(tmp_path / "t.csv").class_names == ("1", "2")


def test_parquet_and_csv_name_classes_alike(tmp_path):
    pd.DataFrame({"image": ["a", "b", "c"], "label": [1.0, 2.0, 10.0]}).to_parquet(tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text("image,label\na,1\nb,2.0\nc,10.\n")
    for name in ("t.parquet", "t.csv"):
        table = read_table(tmp_path / name)
        assert (table.class_names, table.targets.tolist()) == (("1", "2", "10"), [0, 1, 2])
        assert read_table(tmp_path / name, class_names=("10", "1.0", "2")).targets.tolist() == [1, 2, 0]


def test_labels_of_scenes_come_in_any_dress(tmp_path):
    names = "scene_id;detect_scene_row;detect_scene_column;is_vessel;is_fishing;vessel_length_m;confidence;"
    (tmp_path / "l.csv").write_bytes(f"\ufeff{names}\r\ns1; 10;20;TRUE;;12,5;high;\r\n\r\n".encode())
    points = read_labels(tmp_path / "l.csv", confidences=["HIGH"])["s1"]
    assert (points.y.tolist(), points.x.tolist()) == ([10.5], [20.5])
    assert points.attributes["length"].tolist() == [12.5]


def test_answers_in_words_are_labels(tmp_path):
    (tmp_path / "t.csv").write_text("image,red,big\na.tif,True,0\nb.tif,false,1.0\n")
    table = read_table(tmp_path / "t.csv", labels=zeros_and_ones, label_columns=("red", "big"))
    assert table.targets.tolist() == [[1, 0], [0, 1]]


def test_a_table_of_its_own_warns_of_nothing(tmp_path):
    (tmp_path / "t.csv").write_text(PLAIN)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_table(tmp_path / "t.csv")
