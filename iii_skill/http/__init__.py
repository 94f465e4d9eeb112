"""HTTP triggers: routes, requests and responses as plain values, without sockets."""
