-- page_duplicates: one row per page that another page stands for, which may not be selected; key (shard, position).
-- Reads page_scores. Of pages with one id the first by text stays; of pages with one text the one that stays in the
-- catalog does: by split (scoring, benchmark, training), seeded order and id.
-- Rows are sorted and compared with the row before, which the engine does on the disk; windows with partitions it would
-- keep in memory. The order of a subquery stays, with one thread or many, while only columns, filters and OVER () follow.
WITH by_id AS (
    SELECT
        shard,
        position,
        page_id,
        digest,
        "order",
        list_position(['scoring', 'benchmark', 'training'], split) AS priority
    FROM page_scores
    ORDER BY page_id, digest, domain, shard, position
),
identified AS (
    SELECT *, coalesce(page_id = lag(page_id) OVER (), false) AS is_copy FROM by_id
),
by_text AS (
    SELECT shard, position, digest, is_copy
    FROM identified
    ORDER BY is_copy, digest, priority, "order", page_id, shard, position
),
read_once AS (
    SELECT shard, position, is_copy OR digest = lag(digest) OVER () AS is_repeated FROM by_text
)
SELECT shard, position FROM read_once WHERE is_repeated
