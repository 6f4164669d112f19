"""Modules by field."""
