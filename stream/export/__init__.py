"""A session's folder in the forms of other worlds: ELAN, Praat, BIDS, XDF."""
