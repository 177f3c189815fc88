"""Money and truth: signed webhooks that come in, and books that are compared with a provider's."""
