"""How Sphinx builds these pages: MyST Markdown, the Furo theme, and tables that come from the code (`generated.py`)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

project = "flywheel"
author = "The flywheel authors"
copyright = "The flywheel authors, MIT licence"
extensions = ["myst_parser", "docs.generated"]
exclude_patterns = ["_build", "README.md", "images"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "flywheel"
html_show_sphinx = False
html_copy_source = False
nitpicky = True
smartquotes = False  # what is quoted from the code stays as it is
