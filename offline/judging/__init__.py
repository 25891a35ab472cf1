"""What a bundle is worth on labelled material: shown to it as a live source would, and scored."""
