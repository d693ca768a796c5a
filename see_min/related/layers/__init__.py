"""Methods for the linear layers of blocks; `see_min.related.registry.LAYERS` lists them."""
