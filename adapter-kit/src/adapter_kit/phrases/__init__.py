"""What providers say in words of a caller's own mistake, as data; `reading` tells what a text says by it."""
