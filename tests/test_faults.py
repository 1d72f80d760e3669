"""The list of faults made by hand, and the page that shows it."""

from pathlib import Path

import pytest
from faults import FAULTS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "testing.md"


def test_the_page_lists_every_fault_with_its_test():
    rows = [f"| {fault.name} | `{fault.test}` |" for fault in FAULTS]
    listed = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if "` |" in line]
    assert [line for line in listed if ".py::" in line] == rows


def test_names_and_faults_are_told_apart():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert all(fault.right != fault.wrong for fault in FAULTS)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_has_its_place_in_the_code_and_its_test(fault):
    assert (ROOT / "ddpm_keras" / fault.path).read_text(encoding="utf-8").count(fault.right) == 1
    file, test = fault.test.split("::")
    assert f"def {test.split('[')[0]}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")
