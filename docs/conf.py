"""The site of the documentation: Sphinx with MyST and Furo, built by `make docs` into `docs/build`."""

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from site_reference import safe_docstring, write_reference  # noqa: E402 - lies beside this file

from hallo4.version import __version__  # noqa: E402

project, author = "hallo4", "The hallo4 authors"
project_copyright = "The hallo4 authors, Apache-2.0"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
root_doc = "index"
exclude_patterns = ["build", "site"]
nitpicky = False
myst_enable_extensions = ["colon_fence", "deflist", "html_image"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
suppress_warnings = ["myst.header"]  # pages of a repository may begin their headings at any level

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_class_signature = "separated"
python_maximum_signature_line_length = 80
add_module_names = False
default_role = "literal"

html_theme = "furo"
html_title = "hallo4"
html_static_path = ["site/static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#7a3e12", "color-brand-content": "#7a3e12"},
    "dark_css_variables": {"color-brand-primary": "#f0a868", "color-brand-content": "#f0a868"},
}
copybutton_exclude = ".linenos, .gp, .go, .c1"


def setup(app):
    """Generate the reference before pages are read."""
    app.connect("builder-inited", lambda app: write_reference(HERE / "generated"))
    app.connect("autodoc-process-docstring", safe_docstring)
    app.connect("source-read", folders_are_no_links)


def folders_are_no_links(app, name, source):
    """A link to a folder is one for readers of the repository; the site has no page for it."""
    source[0] = re.sub(r"\[([^\]]+)\]\((?!https?:)[\w./-]+/\)", r"`\1`", source[0])
