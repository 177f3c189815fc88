"""The SQL database. Nothing else imports SQLAlchemy; ``import fourlane`` does not need it (extra ``db``)."""
