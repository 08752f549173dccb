"""How Sphinx builds these pages. Notebooks are executed each time; a cell that fails, or warns, fails the build."""

import os
import re
import sys

# What the notebooks print should not depend on the terminal or the number of cores of whoever builds them.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["COLUMNS"] = "100"
os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"  # Pyro imports tqdm, which looks for widgets in a notebook
os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]  # `!probseq` in a cell

import docutils.nodes
import matplotlib.font_manager  # noqa: F401  (fills its cache now, and says so here, not in a notebook)
from docutils.utils.math.latex2mathml import tex2mathml

import probseq
from probseq.export_arrays import import_arviz

import_arviz()  # which announces its next generation once a day: here, and not in a notebook

project = "probseq"
author = copyright = "The probseq authors"
release = version = probseq.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
default_role = "py:obj"

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_output_stderr = "remove-warn"
nb_merge_streams = True
nb_render_markdown_format = "gfm"  # tables

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Reference"]
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 88

html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_title = "probseq"
html_static_path = ["_static"]
html_css_files = ["probseq.css"]
html_sidebars = {"index": [], "changelog": [], "tutorials/**": []}
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": True,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_context = {"default_mode": "auto"}


def setup(app):
    """Formulas become MathML when the pages are built, so reading them needs no network and no script.

    Initials of authors stay initials.
    """

    def renderer(as_block):
        def visit(translator, node):
            # an accent in a group of its own, or docutils takes its subscript for a second accent
            tex = re.sub(r"\\(bar|tilde|hat)\s*(\\[a-z]+|{[^{}]*}|\w)", r"{\\\1 \2{}}", node.astext())
            translator.body.append(tex2mathml(tex, as_block=as_block))
            raise docutils.nodes.SkipNode

        return visit, None

    def keep_initials(_app, _what, _name, _object, _options, lines):
        # "L. R. Rabiner" at the beginning of a line would be item L of a list
        lines[:] = [re.sub(r"^(\s*)([A-Z]\.) ", r"\1\\\2 ", line) for line in lines]

    app.connect("autodoc-process-docstring", keep_initials)
    app.add_html_math_renderer("mathml", inline_renderers=renderer(False), block_renderers=renderer(True))
