-- page_duplicates: one row per page that another page stands for, which may not be selected; key (shard, position).
-- Reads page_scores. Of pages with one id the first by text stays; of pages with one text the one that stays in the
-- catalog does: by split (scoring, benchmark, training), seeded order and id.
WITH identified AS (
    SELECT
        shard,
        position,
        page_id,
        digest,
        "order",
        list_position(['scoring', 'benchmark', 'training'], split) AS priority,
        row_number() OVER (PARTITION BY page_id ORDER BY digest, domain, shard, position) AS copy
    FROM page_scores
),
read_once AS (
    SELECT
        shard,
        position,
        copy,
        row_number() OVER (PARTITION BY copy = 1, digest ORDER BY priority, "order", page_id, shard, position) AS text_copy
    FROM identified
)
SELECT shard, position FROM read_once WHERE copy > 1 OR text_copy > 1
