"""Pages of our own in Flower: a module for the handlers of each, and a template for its look."""
