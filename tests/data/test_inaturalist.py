"""iNaturalist's files: which images, which classes, and what is said when they are not as published."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.inaturalist_files import SPECIES, write_inaturalist
from xt.data.inaturalist import choose, is_inaturalist, read_inaturalist, species_names
from xt.errors import TableError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_inaturalist(tmp_path / "inat", train=3, val=1)


def test_all_species_by_category_number(folder: Path) -> None:
    table = read_inaturalist(folder)
    assert table.class_names == ("Quercus quarta", "Testudo nulla", "Vipera unica", "Anguis septima")
    assert len(table.split("train")) == 12
    assert len(table.split("val")) == 4
    table.check_files()
    for path, target in zip(table.paths, table.targets, strict=True):
        number = next(entry[0] for entry in SPECIES if entry[2] == table.class_names[target])
        assert path.parent.name == str(number)


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (["Reptilia"], ("Testudo nulla", "Vipera unica", "Anguis septima")),
        (["Squamata"], ("Vipera unica", "Anguis septima")),
        (["Plantae", "4262"], ("Quercus quarta", "Testudo nulla")),
        (["Vipera unica", "Squamata"], ("Vipera unica", "Anguis septima")),
    ],
)
def test_a_supercategory_or_a_list_of_classes(
    folder: Path, classes: list[str], names: tuple[str, ...]
) -> None:
    table = read_inaturalist(folder, classes=classes)
    assert table.class_names == names
    assert len(table) == 4 * len(names)
    assert sorted(set(table.targets.tolist())) == list(range(len(names)))


def test_a_class_without_images_is_a_class_nevertheless(folder: Path) -> None:
    categories = json.loads((folder / "categories.json").read_text())
    categories.append({"id": 4300, "name": "Draco absens", "supercategory": "Reptilia"})
    (folder / "categories.json").write_text(json.dumps(categories))
    table = read_inaturalist(folder, classes=["Reptilia"])
    assert table.class_names[1] == "Draco absens"
    assert 1 not in table.targets


def test_a_model_s_own_classes_come_first(folder: Path) -> None:
    names = ("Vipera unica", "Testudo nulla", "Anguis septima")
    table = read_inaturalist(folder, classes=["Reptilia"], class_names=names)
    assert table.class_names == names
    assert [names[target] for target in table.split("val").targets] == [
        "Vipera unica",
        "Testudo nulla",
        "Anguis septima",
    ]
    with pytest.raises(TableError, match="unknown label 'Quercus quarta'"):
        read_inaturalist(folder, class_names=names)


def test_without_names_species_are_called_by_number(folder: Path) -> None:
    (folder / "categories.json").unlink()
    assert read_inaturalist(folder).class_names == ("12", "4262", "4301", "4420")


def test_validation_alone(folder: Path) -> None:
    (folder / "train2018.json").unlink()
    assert is_inaturalist(folder)
    assert set(read_inaturalist(folder).splits or ()) == {"val"}
    (folder / "val2018.json").unlink()
    assert not is_inaturalist(folder)
    with pytest.raises(TableError, match=r"neither train2018\.json nor val2018\.json"):
        read_inaturalist(folder)


def test_species_of_one_name_are_told_apart(folder: Path) -> None:
    categories = json.loads((folder / "categories.json").read_text())
    categories[0]["name"] = categories[1]["name"] = "Vipera duplex"
    (folder / "categories.json").write_text(json.dumps(categories))
    names = read_inaturalist(folder, classes=["Reptilia"]).class_names
    assert names == ("Vipera duplex (4262)", "Vipera duplex (4301)", "Anguis septima")


def _drop(key: str) -> Callable[[Any], None]:
    return lambda content: content.pop(key)


def _unknown_image(content: Any) -> None:
    content["annotations"][0]["image_id"] = 77


def _unknown_category(content: Any) -> None:
    content["annotations"][0]["category_id"] = 99


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop("annotations"), "train2018.json lacks 'annotations'"),
        (_drop("images"), "train2018.json lacks 'images'"),
        (_unknown_image, "annotation of image 77, which is not listed"),
        (_unknown_category, "annotation of category 99, which is not listed"),
    ],
)
def test_files_that_are_not_as_published(folder: Path, change: Callable[[Any], None], message: str) -> None:
    path = folder / "train2018.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(TableError, match=re.escape(message)):
        read_inaturalist(folder)


def test_what_else_can_be_wrong(folder: Path) -> None:
    with pytest.raises(
        TableError, match=r"no class 'Reptila' \(did you mean 'Reptilia'\?\); .*Plantae, Reptilia"
    ):
        read_inaturalist(folder, classes=["Reptila"])
    (folder / "val2018.json").write_text("{")
    with pytest.raises(TableError, match=r"val2018\.json is not a readable JSON file"):
        read_inaturalist(folder)
    (folder / "val2018.json").unlink()
    (folder / "categories.json").write_text("{}")
    with pytest.raises(TableError, match=r"categories\.json: expected a list of categories"):
        read_inaturalist(folder)
    (folder / "categories.json").write_text('[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]')
    with pytest.raises(TableError, match="two categories of one id"):
        read_inaturalist(folder)


def test_as_many_species_as_the_real_files_have() -> None:
    categories = [
        {
            "id": number,
            "name": f"species {number}",
            "supercategory": "Reptilia" if number % 28 == 3 else "Aves",
        }
        for number in reversed(range(8142))
    ]
    names = species_names(choose(categories, (), Path("categories.json")))
    assert list(names.values()) == [f"species {number}" for number in range(8142)]
    chosen = choose(categories, ["Reptilia"], Path("categories.json"))
    assert [entry["id"] for entry in chosen] == list(range(3, 8142, 28))
