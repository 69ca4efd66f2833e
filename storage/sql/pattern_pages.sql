-- Patterns for an operator's pages; see storage/pattern_pages.py. Of columns that are or may have code, only the size.

-- name: pattern_row
-- What a list shows of a pattern.
id, pattern_name, pattern_type, language, is_deprecated, created_by, created_at, updated_at

-- name: show_pattern
-- One pattern, with the name of the one that it was derived from.
SELECT pattern.id, pattern.pattern_name, pattern.pattern_type, pattern.language, pattern.is_deprecated,
       pattern.created_by, pattern.created_at, pattern.updated_at, left(pattern.category, 500) AS category,
       left(pattern.description, 2000) AS description, left(pattern.source, 500) AS source, pattern.confidence_score,
       pattern.usage_count, pattern.success_rate, pattern.complexity_score, pattern.maintainability_score,
       pattern.performance_score, pattern.tags[:50] AS tags, pattern.parent_pattern_id, parent.pattern_name AS parent_name,
       octet_length(pattern.template_code) AS template_bytes, octet_length(pattern.example_usage) AS example_bytes,
       octet_length(pattern.context::text) AS context_bytes
FROM pattern_templates AS pattern
LEFT JOIN pattern_templates AS parent ON parent.id = pattern.parent_pattern_id
WHERE pattern.id = %(id)s

-- name: derived_patterns
-- Patterns that were derived from one, the newest first.
SELECT {{pattern_row}} FROM pattern_templates WHERE parent_pattern_id = %(id)s
ORDER BY created_at DESC FETCH FIRST %(limit)s ROWS ONLY

-- name: named_patterns
-- Patterns of a name: one for each type and language.
SELECT {{pattern_row}} FROM pattern_templates WHERE pattern_name = %(name)s
ORDER BY pattern_type, language FETCH FIRST %(limit)s ROWS ONLY

-- name: changed_patterns
-- Patterns by when they were last written, the newest first, behind the one last seen.
SELECT {{pattern_row}} FROM pattern_templates
WHERE updated_at >= coalesce(%(since)s::timestamptz, '-infinity') AND updated_at <= coalesce(%(until)s::timestamptz, 'infinity')
  AND (updated_at, id) < (coalesce(%(after)s::timestamptz, 'infinity'),
                          coalesce(%(after_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
ORDER BY updated_at DESC, id DESC
FETCH FIRST %(limit)s ROWS ONLY
