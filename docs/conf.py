"""How Sphinx makes the documentation's site: `make docs`. Warnings are errors, and the tutorial is run each time."""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from docs.reference import write_reference  # noqa: E402
from varstar_batch import __version__  # noqa: E402

project = "varstar-batch"
author = "the varstar-batch developers"
project_copyright = author
release = version = __version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
]
exclude_patterns = ["build"]
html_theme = "furo"
html_title = "varstar-batch"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#9a3412", "color-brand-content": "#9a3412"},
    "dark_css_variables": {"color-brand-primary": "#fdba74", "color-brand-content": "#fdba74"},
}

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
# Links to files of the repository that are no pages lead to them where it is published.
suppress_warnings = ["myst.xref_missing"]

# The tutorial is run from its first cell to its last, and an error in it is one of the build.
nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True

autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

write_reference(DOCS / "generated")
