"""What calls cost: prices, budgets, and the books of every call."""
