"""Measurements that take too long for the tests. Each folder is a program of its own."""
