"""The tables: those of the platform that Fourlane reads or writes, and its own.

The SQL files in ``migrations/`` make them; a test compares both. Money is a whole number of the currency's minor
unit (cents; yen have none) beside its currency, never a float. Every moment has a time zone.
"""

from __future__ import annotations

from fourlane.db.models.ai import AiOperationLog
from fourlane.db.models.audit import AuditLog, SecurityEvent
from fourlane.db.models.base import Base, SchemaVersion, now
from fourlane.db.models.files import StoredFile
from fourlane.db.models.notifications import (
    NotificationDigestItem,
    NotificationPreference,
    NotificationRecord,
    NotificationSuppression,
)
from fourlane.db.models.organizations import ApiKey, Organization, OrganizationMember
from fourlane.db.models.outbox import JobOutbox, OutboxQuota, OutboxTask, OutboxUsage
from fourlane.db.models.payments import CreditAccount, CreditTransaction, Invoice, PaymentMethod, Subscription
from fourlane.db.models.reconciliation import ReconciliationFinding, ReconciliationRun, ReconciliationSeen
from fourlane.db.models.webhooks import WebhookDelivery, WebhookEndpoint

__all__ = [
    "AiOperationLog",
    "ApiKey",
    "AuditLog",
    "Base",
    "CreditAccount",
    "CreditTransaction",
    "Invoice",
    "JobOutbox",
    "NotificationDigestItem",
    "NotificationPreference",
    "NotificationRecord",
    "NotificationSuppression",
    "Organization",
    "OrganizationMember",
    "OutboxQuota",
    "OutboxTask",
    "OutboxUsage",
    "PaymentMethod",
    "ReconciliationFinding",
    "ReconciliationRun",
    "ReconciliationSeen",
    "SchemaVersion",
    "SecurityEvent",
    "StoredFile",
    "Subscription",
    "WebhookDelivery",
    "WebhookEndpoint",
    "now",
]
