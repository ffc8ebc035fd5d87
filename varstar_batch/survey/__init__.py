"""The only code that opens a path: surveys in, catalogs out, bundles, snapshots."""
