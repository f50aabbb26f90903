"""The parts of the page, in order. A room adds one with an entry here and a template `section_<name>.html`.

A template sees what `page.render` gives to all of them (`views`, one per target, `number`, `derived`, ...) and, as
`own`, what its section's `view` made of the tables.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ppl_assets.report.costs import costs
from ppl_assets.report.data import ReportData
from ppl_assets.report.page_selection import page_selection_view
from ppl_assets.report.pilot import pilot_view


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the page: the name of its template and anchor, and its title in the table of contents."""

    name: str
    title: str
    view: Callable[[ReportData], Any] = lambda data: {}
    """What the template shows as `own`; None where the tables hold nothing of it: the section is then left out."""


SECTIONS = (
    Section("answer", "Answer"),
    Section("mixture", "Mixture"),
    Section("limits", "Limits and changes"),
    Section("evidence", "Evidence"),
    Section("pages", "Pages", page_selection_view),
    Section("pilot", "Pilot", pilot_view),
    Section("costs", "Costs", costs),
    Section("risks", "Risks"),
    Section("provenance", "Provenance"),
)


def shown_sections(data: ReportData) -> list[tuple[Section, Any]]:
    """The sections that have something to show, with it."""
    views = [(section, section.view(data)) for section in SECTIONS]
    return [(section, view) for section, view in views if view is not None]
