"""Parts for authors of adapters."""
