"""Real people's labelled material: pictures, sentences and comments, and where their emotions lie."""
