"""The page: what a run or a broker's publishers say, in a browser, and the few things that can be told back."""
