"""Tables of phrases by which providers report a caller's mistake; `reading` classifies texts with them."""
