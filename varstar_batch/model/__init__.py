"""Networks, bundles and classification."""
