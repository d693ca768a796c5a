"""Other methods of the family, one small file each."""
