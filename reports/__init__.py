"""Analyses of finished runs and published predictions, and the HTML report that shows them."""
