-- One row per scoring page for one model: sums over its chunks. What is usable, sql/domain_logliks.sql says.
-- keys: page_id. nll in nats, bytes in UTF-8 bytes; both null where no chunk of the page is usable.
WITH usable AS (
    SELECT * FROM chunk_logliks WHERE slug = $slug AND nll IS NOT NULL AND status IN ('ok', 'empty', 'too_long')
)

SELECT
    chunks.page_id,
    chunks.domain,
    fsum(usable.nll) AS nll,
    sum(usable.bytes)::BIGINT AS bytes
FROM chunks
LEFT JOIN usable ON usable.chunk_id = chunks.chunk_id
GROUP BY chunks.page_id, chunks.domain
ORDER BY chunks.domain, chunks.page_id
