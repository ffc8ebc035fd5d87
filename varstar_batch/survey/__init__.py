"""Surveys: what they are called, how their files are laid out, and light curves read from them."""
