"""Files and objects of stores: the only code that opens a path."""
