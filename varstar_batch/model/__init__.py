"""Networks, bundles, training and inference engines. No user path is opened here."""
