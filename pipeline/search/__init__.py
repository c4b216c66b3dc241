"""The master: proposals, dispatch, resume. hpbandster and Pyro4 live here."""
