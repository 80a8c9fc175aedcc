"""What runs around Plimsoll: images, roles, alerts, test servers. Only tests import it."""
