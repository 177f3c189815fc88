"""Text: what a model may be asked, in one turn or in a conversation with tools, and answers that keep a schema."""
