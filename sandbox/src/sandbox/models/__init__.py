"""The models of both providers: the input that they accept, and the files that they produce."""
