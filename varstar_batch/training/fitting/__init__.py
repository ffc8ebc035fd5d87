"""Networks: what each is fed, how it is fitted and calibrated, and where its unfinished work lies."""
