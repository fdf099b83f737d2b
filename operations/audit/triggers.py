"""What makes the table append-only in the database itself, whoever writes to it.

A migration that rebuilds the table on SQLite (most changes of it do) loses the triggers there, and
has to make them again.
"""

from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor

REFUSAL = "audit entries are append-only"
TABLE = "operations_auditentry"
LET_GO = "EXISTS (SELECT 1 FROM operations_forgetting WHERE before > OLD.at)"

CREATE = {
    "postgresql": [
        f"""
        CREATE FUNCTION operations_audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'DELETE' AND {LET_GO} THEN
                RETURN OLD;
            END IF;
            RAISE EXCEPTION '{REFUSAL}' USING ERRCODE = 'restrict_violation';
        END $$
        """,
        f"""
        CREATE TRIGGER operations_audit_append_only BEFORE UPDATE OR DELETE ON {TABLE}
        FOR EACH ROW EXECUTE FUNCTION operations_audit_append_only()
        """,
    ],
    "sqlite": [
        f"""
        CREATE TRIGGER operations_audit_no_update BEFORE UPDATE ON {TABLE}
        BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END
        """,
        f"""
        CREATE TRIGGER operations_audit_no_delete BEFORE DELETE ON {TABLE}
        WHEN NOT {LET_GO}
        BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END
        """,
    ],
}
DROP = {
    "postgresql": [
        f"DROP TRIGGER operations_audit_append_only ON {TABLE}",
        "DROP FUNCTION operations_audit_append_only()",
    ],
    "sqlite": [
        "DROP TRIGGER operations_audit_no_update",
        "DROP TRIGGER operations_audit_no_delete",
    ],
}


def create(apps: Any, editor: BaseDatabaseSchemaEditor) -> None:
    for statement in CREATE[editor.connection.vendor]:
        editor.execute(statement)


def drop(apps: Any, editor: BaseDatabaseSchemaEditor) -> None:
    for statement in DROP[editor.connection.vendor]:
        editor.execute(statement)
