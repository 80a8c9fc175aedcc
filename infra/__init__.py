"""What runs around Plimsoll: images, roles, alerts and test servers. Nothing imports it but tests."""
