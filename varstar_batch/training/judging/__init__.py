"""How good a network is: measures, and the card and the figures that tell them."""
