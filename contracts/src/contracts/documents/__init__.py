"""The documents that are generated from the contracts: JSON Schemas, the AsyncAPI document, the README's diagram.

Nothing imports it; `make docs` runs it.
"""
