-- The WHERE clauses of a query: one block for every filter of storage/operations/query_params.py.

-- name: where_id
id = %(id)s
-- name: where_pattern_name
pattern_name = %(pattern_name)s
-- name: where_pattern_type
pattern_type = %(pattern_type)s
-- name: where_language
language = %(language)s
-- name: where_category
-- The index holds the first hundred characters; a shorter text is all of itself, and there the rest folds away.
left(category, 100) = left(%(category)s, 100) AND (char_length(%(category)s) < 100 OR category = %(category)s)
-- name: where_created_by
left(created_by, 100) = left(%(created_by)s, 100) AND (char_length(%(created_by)s) < 100 OR created_by = %(created_by)s)
-- name: where_is_deprecated
is_deprecated = %(is_deprecated)s
-- name: where_parent_pattern_id
parent_pattern_id = %(parent_pattern_id)s
-- name: where_name_contains
pattern_name ILIKE %(name_contains)s
-- name: where_tags_any
tags && %(tags_any)s::text[]
-- name: where_tags_all
tags @> %(tags_all)s::text[]
-- name: where_context_contains
context @> %(context_contains)s
-- name: where_min_confidence
confidence_score >= %(min_confidence)s
-- name: where_min_success_rate
success_rate >= %(min_success_rate)s
-- name: where_created_after
created_at >= %(created_after)s
-- name: where_created_before
created_at < %(created_before)s
-- name: where_updated_after
updated_at >= %(updated_after)s
-- name: where_updated_before
updated_at < %(updated_before)s

-- name: where_beyond
-- What follows a cursor, in an ascending or a descending order.
({order}, id) {beyond} (%(cursor_value)s, %(cursor_id)s)
