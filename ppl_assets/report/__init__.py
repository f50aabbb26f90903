"""The report: what people look at. Nothing is estimated or decided here, only read from tables, counted and shown.

`render` makes the HTML file, `png_plots` small pictures for the metadata of assets, `summary_tables` what a terminal
shows. All three take one `ReportData`. A number on a page carries the table, column and key it came from, so that a
test can compare them.
"""

from ppl_assets.report.data import ReportData
from ppl_assets.report.page import render
from ppl_assets.report.pictures import png_plots
from ppl_assets.report.terminal import summary_tables

__all__ = ["ReportData", "render", "png_plots", "summary_tables"]
