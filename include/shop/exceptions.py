"""What can go wrong in the shop, in a sentence that says what to do."""


class ShopError(Exception):
    """The shop cannot open; the message names the cause and the remedy."""
