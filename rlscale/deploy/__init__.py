"""World 2, live: metrics from Prometheus, orders through a backend, shields in between, an audit log of everything."""
