#!/bin/sh
# Runs once, when the database server is created: the owner may change the schema and is used by migrate alone,
# the service role works with what is there. The passwords are read by psql, so that no process list shows them.
set -eu
secrets="${SECRETS_DIR:-/run/secrets}"
psql --no-psqlrc --set=ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<SQL
\\set owner_password \`cat "$secrets/owner_password"\`
\\set service_password \`cat "$secrets/service_password"\`
CREATE ROLE pattern_storage_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE pattern_storage_service LOGIN PASSWORD :'service_password';
CREATE DATABASE pattern_storage OWNER pattern_storage_owner;
REVOKE ALL ON DATABASE pattern_storage FROM PUBLIC;
-- Imports keep what they have read in temporary tables.
GRANT CONNECT, TEMPORARY ON DATABASE pattern_storage TO pattern_storage_service;
SQL
