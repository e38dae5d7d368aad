from pathlib import Path

from calora.merging import merge_methods
from calora.merging.listing import methods_page

DOCS = Path(__file__).parents[2] / "docs/merging.md"
BEGIN, END = "<!-- methods -->\n", "<!-- end -->"


def test_the_page_of_the_methods_is_the_registrys() -> None:
    """To mend it: python -m calora.merging.listing"""
    text = DOCS.read_text(encoding="utf-8")
    assert text.partition(BEGIN)[2].partition(END)[0].strip() == methods_page().strip()


def test_it_has_every_method_parameter_and_source() -> None:
    page = methods_page()
    for name, method in merge_methods().items():
        assert f": `{name}`\n" in page
        assert method.source in page
        assert all(f"| `{key}` |" in page for key in method.defaults)
