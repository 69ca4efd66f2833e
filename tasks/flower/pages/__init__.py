"""Our pages in Flower: a module with the handlers of each, and a template for its look."""
