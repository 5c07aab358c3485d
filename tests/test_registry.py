"""Parts by name: what is registered is found, what is none or has a taken name is refused, files are imported once."""

import os

import pytest
from torch import nn

import xt
from xt import registry
from xt.context_encoders import CONTEXT_ENCODERS, NoContext, create_context_encoder
from xt.errors import ConfigError
from xt.heads import HEADS
from xt.images.suffixes import is_image_name


@pytest.fixture(autouse=True)
def _nothing_stays(monkeypatch):
    """Of what a test registers."""
    monkeypatch.setattr(registry, "_registered", {group: {} for group in registry.KINDS})
    monkeypatch.setattr(registry, "_files", set())
    # Set and not deleted, so that what a test adds is taken back.
    monkeypatch.setenv(registry.IMPORTED, "")


def test_a_registered_part_is_made_by_name_and_listed():
    @xt.register("context_encoders", "same")
    class Same(NoContext):
        pass

    assert isinstance(create_context_encoder("same", dim=8), Same)
    assert "same" in CONTEXT_ENCODERS
    assert len(CONTEXT_ENCODERS) == len(list(CONTEXT_ENCODERS))


def test_one_registered_again_takes_the_place_of_the_first():
    for number in (1, 2):
        xt.register("context_encoders", "same", type("Same", (NoContext,), {"number": number}))
        assert CONTEXT_ENCODERS["same"].number == number


def test_the_names_of_the_house_stay_its_own():
    xt.register("heads", "points", HEADS["segmentation"])
    with pytest.raises(
        ConfigError, match="there is a head 'points' in xt: register yours under another name"
    ):
        _ = HEADS["segmentation"]


@pytest.mark.parametrize("part", [nn.Linear, 3, NoContext(8)])
def test_what_is_no_such_part_is_refused_when_it_is_asked_for(part):
    xt.register("heads", "odd", part)
    with pytest.raises(ConfigError, match="a head is a class derived from"):
        _ = HEADS["odd"]


def test_an_unknown_group_names_the_nearest():
    with pytest.raises(ConfigError, match="not in 'head' \\(did you mean 'heads'"):
        xt.register("head", "mine", HEADS["points"])


def test_an_unknown_part_says_where_others_come_from():
    with pytest.raises(
        ConfigError, match=r"unknown context encoder 'mambo' \(did you mean 'mamba'.*--import FILE"
    ):
        create_context_encoder("mambo", dim=8)


def test_a_registered_source_opens_its_files_also_in_folders(tmp_path):
    from xt.images.array import ArrayImage

    class Text(ArrayImage):
        suffixes = (".pixels",)

        def __init__(self, path, nodata=None):
            import numpy as np

            super().__init__(np.loadtxt(path, dtype="uint8", ndmin=2), nodata)

    path = tmp_path / "a.pixels"
    path.write_text("1 2 3\n4 5 6\n")
    assert not is_image_name(path)
    xt.register("image_sources", "text", Text)
    assert is_image_name(path)
    assert xt.open_image(path).read(0, 1, 2, 2)[..., 0].tolist() == [[2, 3], [5, 6]]


def test_a_file_is_imported_once_and_named_to_processes_that_start(tmp_path):
    path = tmp_path / "parts_imported_once.py"
    path.write_text("import xt\nfrom xt.context_encoders import NoContext\n"
                    "xt.register('context_encoders', 'once', type('Once', (NoContext,), {}))\n")  # fmt: skip
    registry.import_file(str(path))
    registry.import_file(str(path))
    assert os.environ[registry.IMPORTED] == str(path)
    assert "once" in CONTEXT_ENCODERS


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none.py", None, "takes a Python file that registers parts; .*none.py is none"),
        ("data.csv", "a", "takes a Python file that registers parts"),
        (
            "broken_parts.py",
            "1 / 0",
            r"broken_parts.py cannot be imported \(ZeroDivisionError: division by zero\)",
        ),
    ],
)
def test_a_file_that_cannot_be_imported_is_refused(tmp_path, name, text, message):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        registry.import_file(str(path))
