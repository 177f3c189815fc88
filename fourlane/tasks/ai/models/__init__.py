"""The models by their names: what they are called, when they end, what is listed of them."""
