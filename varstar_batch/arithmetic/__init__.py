"""Light curves as offsets and flat columns: cleaning, folding, interpolation, simulation. No I/O."""
