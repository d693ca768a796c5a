"""Other methods of the family, one small file each; `see_min.related.registry` lists them."""
