"""Alembic migrations of the store's schema; ``fettle.store.sql.schema`` runs them."""
