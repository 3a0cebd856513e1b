"""Grafana's dashboards as code: one module for each, and what they share.

Stands beside what it makes, `dashboards/grafana/*.json`, which `build.py` writes; the platform never imports it.
Metrics are named by `pointsman.contracts.names`, colours by `pointsman.contracts.colours`.
"""
