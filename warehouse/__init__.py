"""The stores: where tables live and how they are read and written."""
