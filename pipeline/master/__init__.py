"""The master: who is given what, failures, resume and the lease. hpbandster and Pyro4 are here."""
