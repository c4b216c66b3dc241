import Pyro4

from pipeline.rpc.master_address import MasterAddress, dispatcher_name, worker_prefix


def test_a_run_whose_folder_was_renamed_to_a_name_with_spaces_has_an_address() -> None:
    address = MasterAddress("my (best) run", 1, "login", "10.0.0.1", 9090)
    uri = Pyro4.URI(address.dispatcher_uri)
    assert (uri.object, uri.host, uri.port) == (dispatcher_name("my (best) run"), "10.0.0.1", 9090)
    assert worker_prefix("my (best) run") == "hpbandster.run_my__best__run.worker."
    assert dispatcher_name("digits-20261126-110000_2.x") == "hpbandster.run_digits-20261126-110000_2.x.dispatcher"
