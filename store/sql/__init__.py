"""The store on SQLAlchemy: the only place that talks to a database (SQLite files, PostgreSQL servers)."""
