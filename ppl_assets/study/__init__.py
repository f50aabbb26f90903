"""The study: which question is asked, with which choices frozen before any number is seen."""

from ppl_assets.study.editing import add_model, retire_model
from ppl_assets.study.loading import EMBEDDED, embedded_text, load_study, parse_study
from ppl_assets.study.schema import Study

__all__ = ["EMBEDDED", "Study", "add_model", "embedded_text", "load_study", "parse_study", "retire_model"]
