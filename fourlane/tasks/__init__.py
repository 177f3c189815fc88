"""Tasks: declared, sent, and what they may ask and say as they run. The platform's own are in the folders."""
