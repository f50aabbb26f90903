"""The warehouse: the only room that reads and writes tables, and the only one that opens DuckDB."""

from ppl_assets.warehouse.engine import publish, run_sql
from ppl_assets.warehouse.file_digest import file_digest
from ppl_assets.warehouse.lake import Footer, Lake, data_version, remove_abandoned, replace_file

__all__ = ["Footer", "Lake", "data_version", "file_digest", "publish", "remove_abandoned", "replace_file", "run_sql"]
