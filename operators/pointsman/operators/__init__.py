"""Pools, policies and tenants as Kubernetes objects: their definitions, and the operator."""
