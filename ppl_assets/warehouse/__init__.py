"""The warehouse: the only room that reads and writes tables, and the only one that opens DuckDB."""

from ppl_assets.warehouse.engine import publish, published_tables, run_sql, sql_to_files
from ppl_assets.warehouse.file_digest import file_digest, remembered
from ppl_assets.warehouse.files import remove_abandoned, replace_file, replace_parquet, replacing_file
from ppl_assets.warehouse.lake import Footer, Lake, data_version

__all__ = [
    "Footer",
    "Lake",
    "data_version",
    "file_digest",
    "publish",
    "published_tables",
    "remembered",
    "remove_abandoned",
    "replace_file",
    "replace_parquet",
    "replacing_file",
    "run_sql",
    "sql_to_files",
]
