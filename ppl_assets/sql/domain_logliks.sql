-- One row per domain for one model: sums over its chunks, never means of means.
-- keys: slug, domain. nll in nats, bytes in UTF-8 bytes, bpb = nll / (ln 2 x bytes).
-- fsum adds with error compensation, so that the order of rows cannot show in the last digits.
-- A chunk counts where it has a number for all of its bytes: in windows where it is too long for the model's context, but
-- not where the tokenizer lost text.
-- A domain scored here wins over the same domain imported. Of a model that is imported only, no chunk is passed.
WITH usable AS (
    SELECT * FROM chunk_logliks WHERE slug = $slug AND nll IS NOT NULL AND status IN ('ok', 'empty', 'too_long')
),

scored AS (
    SELECT
        $slug AS slug,
        chunks.domain,
        fsum(usable.nll) AS nll,
        sum(usable.tokens)::BIGINT AS tokens,
        sum(usable.bytes)::BIGINT AS bytes,
        count(usable.chunk_id) AS chunks,
        count(*) - count(usable.chunk_id) AS chunks_missing
    FROM chunks
    LEFT JOIN usable ON usable.chunk_id = chunks.chunk_id
    WHERE EXISTS (SELECT 1 FROM chunk_logliks WHERE chunk_logliks.slug = $slug)
    GROUP BY chunks.domain
)

SELECT *, CASE WHEN bytes > 0 THEN nll / (ln(2) * bytes) END AS bpb
FROM scored
UNION ALL
SELECT slug, domain, nll, tokens, bytes, NULL AS chunks, NULL AS chunks_missing, bpb
FROM imported_bpb
WHERE slug = $slug AND domain NOT IN (SELECT domain FROM scored)
ORDER BY domain
