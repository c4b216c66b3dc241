"""How processes find, trust and talk to each other: Pyro4 over mutual TLS, a thread per connection, plain types.

`tls` makes the run's authority and certificates, `server` accepts calls, `client` makes them, `plain` turns values
into what can travel, and `master_address` says where the present master listens.
"""
