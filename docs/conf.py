"""How the documentation becomes a site: `make docs`.

Sphinx, because among the generators that are alive it alone checks every internal link and anchor, reads docstrings by
importing the code, and has a search that works from files. (MkDocs 1 and Material for MkDocs are in maintenance;
Zensical calls its reference from code preliminary.)
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

import pipeline  # noqa: E402
from docs.references import with_references, without_links_to_code  # noqa: E402

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "Tandem"
author = "The Tandem authors"
copyright = author
version = release = pipeline.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "images"]
root_doc = "index"

# Pages ---------------------------------------------------------------------------------------------------------------
myst_enable_extensions = ["attrs_inline", "deflist"]
# Anchors of headings are those of a forge that shows the same files.
myst_heading_anchors = 4
# Two dashes in a sentence are an option.
smartquotes = False
# Blocks of commands are not a language that Pygments could check.
highlight_language = "none"

# Reference from the code ---------------------------------------------------------------------------------------------
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
# As they are written: what they stand for says how files are checked, not what to give.
autodoc_type_aliases = {
    name: name
    for name in (
        "BudgetNumber",
        "ConfigId",
        "Configuration",
        "Count",
        "Due",
        "EvaluationKey",
        "Model",
        "Name",
        "Pending",
        "Ranking",
        "Run",
        "Value",
    )
}
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True, "exclude-members": "__init__, __new__, __post_init__"}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# A record's signature has the types already.
napoleon_attr_annotations = False
# One backtick in a docstring is code.
default_role = "literal"
add_module_names = False
python_maximum_signature_line_length = 88

# The site: system fonts, nothing from elsewhere ----------------------------------------------------------------------
html_theme = "furo"
html_title = f"Tandem {version}"
html_static_path = ["_static"]
html_css_files = ["tandem.css"]
html_copy_source = False
# A page that comes from a disk may not read its neighbours, which summaries need.
html_show_search_summary = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}


def _prepare(app: Sphinx, page: str, source: list[str]) -> None:
    source[0] = without_links_to_code(with_references(source[0]), DOCS)


def readable(text: str | None) -> str | None:
    """A signature, or what comes after its arrow, as a person would write it.

    A name within brackets is wrapped by autodoc, and a default that is made anew each time is no Python: with it Sphinx
    prints every module of every type.
    """
    return text and re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", text).replace("<factory>", "...")


def _sign(app: Sphinx, what: str, name: str, item: object, options: object, *signature: str | None) -> object:
    return tuple(readable(part) for part in signature)


def setup(app: Sphinx) -> None:
    """Fill in what is generated, as each page is read."""
    app.connect("source-read", _prepare)
    app.connect("autodoc-process-signature", _sign)
