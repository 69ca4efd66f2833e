-- What operators set and did; see storage/pauses.py and storage/audit.py.

-- name: add_pause
-- Pause a queue or an import; no row comes back if it is paused.
INSERT INTO pauses (kind, name, paused_by) VALUES (%(kind)s, %(name)s, %(actor)s)
ON CONFLICT (kind, name) DO NOTHING
RETURNING name

-- name: remove_pause
-- Resume it; no row comes back if it was not paused.
DELETE FROM pauses WHERE kind = %(kind)s AND name = %(name)s RETURNING name

-- name: list_pauses
-- What is paused of a kind.
SELECT name, paused_at, paused_by FROM pauses WHERE kind = %(kind)s ORDER BY name

-- name: add_audit_entry
-- Record what an operator did.
INSERT INTO audit_log (actor, action, filter, count) VALUES (%(actor)s, %(action)s, %(filter)s, %(count)s)

-- name: list_audit_entries
-- What operators did, the newest first, behind the entry last seen.
SELECT id, at, actor, action, filter, count FROM audit_log
WHERE (%(actor)s::text IS NULL OR actor = %(actor)s)
  AND (%(action)s::text IS NULL OR action = %(action)s)
  AND (%(before)s::bigint IS NULL OR id < %(before)s)
ORDER BY id DESC
FETCH FIRST %(limit)s ROWS ONLY
