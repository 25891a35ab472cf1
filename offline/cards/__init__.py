"""A bundle's model card, written from its manifest, from judgements and from a template."""
