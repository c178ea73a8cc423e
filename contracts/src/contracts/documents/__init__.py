"""Generates documents from the contracts: JSON Schemas, the AsyncAPI document, the README's diagram.

Other packages do not import it; `make docs` runs it.
"""
