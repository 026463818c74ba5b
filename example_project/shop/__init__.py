"""The shop: orders, and the mail about them."""
