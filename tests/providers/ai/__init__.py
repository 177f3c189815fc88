"""How providers of AI are spoken to."""
