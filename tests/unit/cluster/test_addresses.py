import pytest

from pipeline.cluster.addresses import choose_address, interfaces, route_source
from pipeline.errors import SiteError
from pipeline.settings import NetworkSettings


def network(address: str | None = None) -> NetworkSettings:
    return NetworkSettings(address=address)


def test_workers_of_this_machine_need_no_network() -> None:
    assert choose_address(network(), ()) == "127.0.0.1"


def test_the_address_is_the_one_on_the_route_to_most_nodes() -> None:
    routes = {"node1": "10.0.0.5", "node2": "10.0.0.5", "node3": "192.168.1.9", "gone": None}
    assert choose_address(network(), list(routes), routes.get) == "10.0.0.5"


def test_loopback_is_no_address_for_other_machines() -> None:
    with pytest.raises(SiteError, match="no route to any of the nodes node1, node2") as error:
        choose_address(network(), ["node1", "node2"], {"node1": "127.0.0.1"}.get)
    assert "network.address" in str(error.value)


def test_the_setting_may_name_an_interface_a_host_or_an_address() -> None:
    assert interfaces()["lo"] == "127.0.0.1"
    for name in ("lo", "localhost", "127.0.0.1"):
        assert choose_address(network(name), ["node1"]) == "127.0.0.1"


def test_a_setting_that_is_another_machines_is_refused_with_what_there_is() -> None:
    with pytest.raises(SiteError, match=r"not an address of this machine.*lo 127\.0\.0\.1"):
        choose_address(network("192.0.2.7"), ())  # an address reserved for documentation
    with pytest.raises(SiteError, match="'ib7' is no interface of this machine"):
        choose_address(network("ib7"), ())


def test_the_route_to_this_machine_is_loopback_and_an_unknown_host_has_none() -> None:
    assert route_source("localhost") == "127.0.0.1"
    assert route_source("no-such-host.invalid") is None
