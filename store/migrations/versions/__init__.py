"""One file per revision, listed in order in ``fettle.store.sql.schema.REVISIONS``."""
