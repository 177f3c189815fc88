"""Files that jobs leave, where the database keeps them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from fourlane.db.models.base import Base, now

__all__ = ["StoredFile"]


class StoredFile(Base):
    """A file and what it is (fourlane/storage)."""

    __tablename__ = "stored_files"
    __table_args__ = (Index("ix_stored_files_stored", "stored_at"),)

    name: Mapped[str] = mapped_column(primary_key=True)
    """AREA/TENANT/GROUP/FILE."""
    media_type: Mapped[str]
    data: Mapped[bytes]
    stored_at: Mapped[datetime] = mapped_column(server_default=now())
