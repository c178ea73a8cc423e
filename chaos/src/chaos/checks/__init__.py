"""Whether the promises were kept, judged from the evidence. Pure."""
