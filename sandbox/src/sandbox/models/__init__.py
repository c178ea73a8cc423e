"""The models that both providers offer: what they accept, and the files that they make."""
