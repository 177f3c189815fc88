"""Webhook deliveries: a receiver with good and bad days, and payloads to send to it."""
