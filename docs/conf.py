"""How Sphinx makes the site of these pages: ``tox -e docs``, see CONTRIBUTING.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from sphinx.addnodes import pending_xref

import trio_ipc

if TYPE_CHECKING:
    from docutils.nodes import Element, document
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "trio_ipc"
author = "The trio_ipc contributors"
copyright = author
version = release = trio_ipc.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinxcontrib.svgbob",
    "sphinxcontrib_trio",
]
exclude_patterns = ["_build", "examples"]

# `name` in a docstring is a link; a name that is none stands in double backquotes.
default_role = "py:obj"
add_module_names = False
python_use_unqualified_type_names = True
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
# Of the documenters that sphinxcontrib-trio replaces, the new autodoc records no type hints.
autodoc_use_legacy_class_based = True

# A reference that leads nowhere is an error. Where it leads to outside is written down in
# inventories/ (in the text format, version 1), and not fetched, so that the outcome is the same
# everywhere and at any time; `tox -e docs -- linkcheck` asks the sites themselves.
nitpicky = True
nitpick_ignore = [
    ("py:class", f"{prefix}{name}")
    for prefix in ("", "trio_ipc._channel.", "trio_ipc.javascript.")
    for name in ("SendT", "ReceiveT", "K", "V", "Self")
] + [("py:class", "PathOrString")]
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", "inventories/python.txt"),
    "trio": ("https://trio.readthedocs.io/en/stable", "inventories/trio.txt"),
    "msgspec": ("https://jcristharif.com/msgspec", "inventories/msgspec.txt"),
}

html_theme = "furo"
html_title = f"trio_ipc {version}"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
copybutton_exclude = ".linenos, .gp, .go"

# Annotations of names that are imported for type checkers only stay as they are written.
_MODULES = {
    "AbstractAsyncContextManager": "contextlib",
    "Awaitable": "collections.abc",
    "Callable": "collections.abc",
    "Generator": "collections.abc",
    "ItemsView": "collections.abc",
    "Iterable": "collections.abc",
    "Iterator": "collections.abc",
    "Mapping": "collections.abc",
    "Sequence": "collections.abc",
}


def _say_where_it_is_from(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: Element
) -> None:
    target = node["reftarget"]
    if target in _MODULES:
        node["reftarget"] = f"{_MODULES[target]}.{target}"


def _unlink_directories(app: Sphinx, page: document) -> None:
    # A link to a directory is for those who read the pages in the repository.
    for node in list(page.findall(pending_xref)):
        if node["reftype"] == "myst" and (Path(app.srcdir) / node["reftarget"]).is_dir():
            node.replace_self(node.children)


def _link_pages(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    # A docstring names a page as the reader of the source finds it.
    lines[:] = [re.sub(r"docs/(\w+)\.md", r":doc:`/\1`", line) for line in lines]


def setup(app: Sphinx) -> None:
    # Intersphinx listens with the usual priority, 500, and finds what is said here.
    app.connect("missing-reference", _say_where_it_is_from, priority=400)
    app.connect("doctree-read", _unlink_directories)
    app.connect("autodoc-process-docstring", _link_pages)
