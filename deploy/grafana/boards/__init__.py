"""Segue's dashboards for Grafana: one module for each, on the parts in `panels` and `dashboard`."""
