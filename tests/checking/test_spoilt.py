"""A table spoilt in more than twenty ways: each is named with its row, and no good row is."""

import pytest

import xt
from tests.checking.spoilt import CLASSES, SPOILT, spoilt_table
from xt.checking import CheckOptions, CheckResult, Severity

OVERRIDES = (f"--labels.class_names=[{', '.join(CLASSES)}]", "--model.encoder=convnext_atto")


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> tuple[CheckResult, dict[str, int]]:
    table, spoilt = spoilt_table(tmp_path_factory.mktemp("spoilt"))
    options = CheckOptions(workers=0, journal="", costs=False)
    return xt.check(table, options, overrides=OVERRIDES), spoilt


def test_there_are_twenty(found):
    assert len(SPOILT) >= 20


@pytest.mark.parametrize("name", SPOILT)
def test_each_is_named_with_its_row(found, name):
    result, spoilt = found
    row, said = spoilt[name], SPOILT[name][1]
    of_row = [finding for finding in result.findings if row in finding.rows]
    assert any(said in finding.sentence for finding in of_row), [finding.sentence for finding in of_row]
    # In the report, too.
    assert any(f"row {row}:" in line or f"rows 0, {row}:" in line for line in str(result).splitlines())


def test_good_rows_are_not(found):
    result, spoilt = found
    named = {row for finding in result.findings for row in finding.rows}
    assert named - set(spoilt.values()) == {0}, "row 0 is the one of which there is a copy"
    assert result.status == 2


def test_what_is_said_of_a_row_is_of_its_file(found):
    result, _ = found
    for finding in result.findings:
        for row, file in zip(finding.rows, finding.files, strict=True):
            assert file.endswith(f"image{row}.tif")


def test_the_worst_comes_first(found):
    severities = [finding.severity for finding in found[0].findings]
    assert severities == sorted(severities, reverse=True)
    assert severities[0] is Severity.ERROR
