"""Recipes: from YAML files and overrides to checked, frozen dataclasses."""
