"""Stars of a catalog that are known from elsewhere, and how right the catalog is by them."""
