"""What is not a conversation: images, speech, embeddings, moderation; and the files that models read."""
