"""What the docs tell people to write is what Chiasm takes."""

import re
from pathlib import Path

import pytest

from chiasm.config_file import load_config
from chiasm.families import FAMILIES

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = [
    pytest.param(text, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, text in enumerate(re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE))
]


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("text", EXAMPLES)
def test_a_configuration_in_the_docs_fits(tmp_path: Path, text: str) -> None:
    (tmp_path / "cluster.yaml").write_text(text)
    load_config(tmp_path / "cluster.yaml")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_in_the_docs(family: str) -> None:
    assert family.partition(" (")[0] in (ROOT / "docs" / "models.md").read_text()
