"""What a file is, told from its bytes: its kind, its length or size, and whether it is whole.

It imports nothing of the kit.
"""
