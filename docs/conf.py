"""Configuration of the documentation; ``make docs`` builds it without a network or warnings."""

import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import pages  # noqa: E402 -- it lies beside this file, which no path names

import torchgeo_aom  # noqa: E402 -- of this clone

project = 'torchgeo_aom'
author = 'torchgeo_aom contributors'
copyright = 'torchgeo_aom contributors'
version = release = torchgeo_aom.__version__

extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
exclude_patterns = ['_build', '**.ipynb_checkpoints']

html_theme = 'furo'
html_title = f'torchgeo_aom {release}'
html_copy_source = False
html_show_sphinx = False

# Markdown: anchors of headings as on a repository's page, so that links work in both places.
myst_heading_anchors = 3
myst_enable_extensions = ['colon_fence', 'deflist']

# Notebooks are kept without output and run at every build.
nb_execution_mode = 'force'
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 900
nb_output_stderr = 'remove'
nb_merge_streams = True

autodoc_member_order = 'bysource'
autodoc_typehints_format = 'short'
autodoc_preserve_defaults = True
# By their names, not by the many types that they stand for.
autodoc_type_aliases = {'BandSpec': 'torchgeo_aom.bands.BandSpec', 'ArrayLike': 'ArrayLike'}
napoleon_numpy_docstring = False
# Attributes are described once, with their class; their types are in its signature.
napoleon_use_ivar = True
napoleon_attr_annotations = False
python_display_short_literal_types = True
python_maximum_signature_line_length = 88
# What stands before a colon under "Returns" is no type here: types are in signatures.
napoleon_custom_sections = ['Returns']
# References into other projects cannot be looked up without a network; ours have to be right.
nitpicky = True
nitpick_ignore_regex = [('py:.*', r'(?!torchgeo_aom\b).*')]

pages.write(HERE / '_generated')


def setup(app: Sphinx) -> None:
    """Add what the code and the repository's pages need to become a site."""
    app.connect('missing-reference', pages.find)
    app.connect('autodoc-process-signature', pages.show_signature)
    app.connect('source-read', pages.point_to_cards)
