"""The table pattern_templates and the indexes of every documented query."""

from alembic import op

from pattern_storage.storage.migrations.extensions import trigram_operator_class

revision = "pattern_storage_0001"
down_revision = None

#: What it creates; doctor and migrate look for it.
TABLES = ("pattern_templates",)

UP = """
CREATE TABLE pattern_templates (
    id                    uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    pattern_name          text NOT NULL CHECK (char_length(pattern_name) BETWEEN 1 AND 255),
    pattern_type          text NOT NULL CHECK (char_length(pattern_type) BETWEEN 1 AND 100),
    language              text NOT NULL CHECK (char_length(language) BETWEEN 1 AND 50),
    category              text,
    template_code         text NOT NULL,
    description           text,
    example_usage         text,
    source                text,
    confidence_score      double precision NOT NULL DEFAULT 0.5 CHECK (confidence_score BETWEEN 0 AND 1),
    usage_count           integer NOT NULL DEFAULT 0 CHECK (usage_count >= 0),
    success_rate          double precision NOT NULL DEFAULT 0.5 CHECK (success_rate BETWEEN 0 AND 1),
    complexity_score      integer CHECK (complexity_score BETWEEN 1 AND 10),
    maintainability_score double precision CHECK (maintainability_score BETWEEN 0 AND 1),
    performance_score     double precision CHECK (performance_score BETWEEN 0 AND 1),
    parent_pattern_id     uuid REFERENCES pattern_templates (id),
    is_deprecated         boolean NOT NULL DEFAULT false,
    created_by            text NOT NULL DEFAULT 'system',
    tags                  text[] NOT NULL DEFAULT '{}',
    context               jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(context) = 'object'),
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pattern_templates_key UNIQUE (pattern_name, pattern_type, language)
);

-- One index for every column a query may be ordered by; pattern_name has the unique key's.
CREATE INDEX pattern_templates_created_at ON pattern_templates (created_at, id);
CREATE INDEX pattern_templates_updated_at ON pattern_templates (updated_at, id);
CREATE INDEX pattern_templates_confidence_score ON pattern_templates (confidence_score, id);
CREATE INDEX pattern_templates_success_rate ON pattern_templates (success_rate, id);
CREATE INDEX pattern_templates_usage_count ON pattern_templates (usage_count, id);

-- Filters that leave many rows come with the default order, so that a page needs no sort.
CREATE INDEX pattern_templates_pattern_type ON pattern_templates (pattern_type, created_at, id);
CREATE INDEX pattern_templates_language ON pattern_templates (language, created_at, id);

-- Texts without a length limit are hashed: a btree refuses values over 2,704 bytes.
CREATE INDEX pattern_templates_category ON pattern_templates USING hash (category);
CREATE INDEX pattern_templates_created_by ON pattern_templates USING hash (created_by);

-- Few rows have a parent or are deprecated. The first also serves the foreign key when a parent is deleted.
CREATE INDEX pattern_templates_parent ON pattern_templates (parent_pattern_id, created_at)
    WHERE parent_pattern_id IS NOT NULL;
CREATE INDEX pattern_templates_deprecated ON pattern_templates (created_at, id) WHERE is_deprecated;

-- Trigrams make "name contains" an index scan.
CREATE INDEX pattern_templates_name_trigrams ON pattern_templates USING gin (pattern_name {trigrams});
CREATE INDEX pattern_templates_tags ON pattern_templates USING gin (tags);
CREATE INDEX pattern_templates_context ON pattern_templates USING gin (context jsonb_path_ops);
"""

DOWN = "DROP TABLE pattern_templates"  # pg_trgm stays: something else in the database may use it.


def upgrade() -> None:
    op.execute(UP.replace("{trigrams}", trigram_operator_class()))


def downgrade() -> None:
    op.execute(DOWN)
