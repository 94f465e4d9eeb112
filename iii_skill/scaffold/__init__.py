"""Scaffolder: templates, questions, rendering and writing of projects."""
