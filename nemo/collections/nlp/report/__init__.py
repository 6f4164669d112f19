"""One HTML page on one run or several: curves, text, options, predictions, environment. Needs no network."""

from nemo.collections.nlp.report.page import REPORT, write_report

__all__ = ["REPORT", "write_report"]
