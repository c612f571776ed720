"""A report as a page that needs nothing else, as tables for a terminal, and as figures in Markdown pages."""
