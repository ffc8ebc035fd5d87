"""Light curves as archives hand them out, one module for each archive."""
