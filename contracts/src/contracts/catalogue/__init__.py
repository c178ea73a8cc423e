"""The model catalogue, read from `catalogue/models.yaml`: models, their routes, and each route's limits and price."""

from contracts.catalogue.load import CatalogueError, default_catalogue_path, load_catalogue
from contracts.catalogue.mapping import Argument
from contracts.catalogue.plan import ASKS, Catalogue, Model, Plan, UnknownModel, ask_of, sifted, why_not_enabled
from contracts.catalogue.route import Limits, Price, Range, Route

__all__ = [
    "ASKS",
    "Argument",
    "Catalogue",
    "CatalogueError",
    "Limits",
    "Model",
    "Plan",
    "Price",
    "Range",
    "Route",
    "UnknownModel",
    "ask_of",
    "default_catalogue_path",
    "load_catalogue",
    "sifted",
    "why_not_enabled",
]
