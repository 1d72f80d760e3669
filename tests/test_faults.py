"""The list of faults made by hand, and the page that shows it."""

from pathlib import Path

from faults import FAULTS

PAGE = Path(__file__).parents[1] / "docs" / "testing.md"


def test_the_page_lists_every_fault_with_its_test():
    rows = [f"| {fault.name} | `{fault.test}` |" for fault in FAULTS]
    listed = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if "` |" in line]
    assert [line for line in listed if ".py::" in line] == rows


def test_names_and_faults_are_told_apart():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert all(fault.right != fault.wrong for fault in FAULTS)
