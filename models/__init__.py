"""What is computed: networks, ensemble, centering, bundles. Imports neither `stream` nor `offline`."""
