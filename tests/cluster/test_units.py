from dataclasses import replace

from xt.cluster.units import Outcome, Plan, WorkUnit, units_of


def test_bands_then_the_image():
    plan = Plan()
    (unit,) = units_of([("a.tif", "a")])
    bands = plan.note(Outcome(unit=unit, bands=((0, 3), (3, 5))))
    assert [band.band for band in bands] == [(0, 3), (3, 5)]
    assert bands[1].name == "a, region batches 3 to 5"
    assert plan.note(Outcome(unit=bands[1])) == []
    assert plan.num_images == 0
    (last,) = plan.note(Outcome(unit=bands[0]))
    assert last == replace(unit, is_cut=True)
    assert plan.note(Outcome(unit=last, result={})) == []
    assert (plan.num_images, plan.num_bands, plan.all_bands, plan.failed) == (1, 2, 2, {})


def test_what_takes_room_on_the_disk_comes_first():
    unit = WorkUnit(image="a.tif", stem="a")
    assert [each.is_urgent for each in (unit, replace(unit, band=(0, 3)), replace(unit, is_cut=True))] == [
        False, True, True,
    ]  # fmt: skip


def test_an_image_fails_once_with_its_first_reason():
    plan = Plan()
    one, other = units_of([("a.tif", "a"), ("b.tif", "b")])
    bands = plan.note(Outcome(unit=one, bands=((0, 3), (3, 5), (5, 6))))
    plan.note(Outcome(unit=other, failure="torn"))
    for band, failure in zip(bands, ("", "first", "second"), strict=True):
        assert plan.note(Outcome(unit=band, failure=failure)) == []
    assert plan.failed == {"b.tif": "torn", "a.tif": "first"}
    assert plan.num_images == 2
