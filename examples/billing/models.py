"""What billing keeps."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import DateTime
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Invoice(Base):
    __tablename__ = "invoices"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    order_id: Mapped[str] = mapped_column(unique=True)
    email: Mapped[str]
    amount_cents: Mapped[int]
    paid_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
