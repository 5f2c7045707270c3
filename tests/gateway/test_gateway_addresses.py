"""Which addresses are public, and which hosts an operator allows."""

import pytest
from yarl import URL

from chiasm.config import GatewayConfig
from chiasm.gateway.addresses import AllowedHosts, is_public

PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "2a00:1450:4001::1"]
NOT_PUBLIC = [
    "0.0.0.0",
    "10.1.1.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    "::",
    "::1",
    "::8.8.8.8",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "localhost",
    "example.org",
    "127.1",
    "2130706433",
]


def test_an_address_is_public_only_if_it_is_nothing_else() -> None:
    assert [address for address in [*PUBLIC, *NOT_PUBLIC] if is_public(address)] == PUBLIC


HOSTS = [
    ("a.test", "http://a.test/x", True),
    ("a.test", "https://A.TEST./x", True),
    ("A.test", "https://a.test/x", True),
    ("a.test", "https://a.test:443/x", True),
    ("a.test", "http://a.test:443/x", False),
    ("a.test", "http://b.a.test/x", False),
    ("a.test", "http://a.test.b.test/x", False),
    ("a.test:81", "http://a.test:81/x", True),
    ("a.test:81", "http://a.test/x", False),
    ("*.a.test", "http://b.a.test/x", True),
    ("*.a.test", "http://c.b.a.test/x", True),
    ("*.a.test", "http://a.test/x", False),
    ("*.a.test", "http://xa.test/x", False),
    ("*", "http://anything.test/x", True),
    ("*", "http://anything.test:8080/x", False),
    ("*:8080", "http://anything.test:8080/x", True),
    ("xn--bcher-kva.test", "http://b\u00fccher.test/x", True),
    ("[2606:4700::1111]", "http://[2606:4700::1111]/x", True),
    ("[2606:4700::1111]:81", "http://[2606:4700::1111]:81/x", True),
    ("[2606:4700::1111]:81", "http://[2606:4700::1111]/x", False),
]


def test_a_host_is_allowed_as_the_operator_wrote_it() -> None:
    for entry, url, allowed in HOSTS:
        config = GatewayConfig(allowed_media_domains=[entry])
        assert AllowedHosts(config.allowed_media_domains).allows(URL(url)) is allowed, (entry, url)


@pytest.mark.parametrize("entry", ["", "http://a.test", "a.test/x", "a test", "*a.test", "a.*", "a.test:", "u@a.test"])
def test_what_is_no_host_is_refused_in_the_configuration(entry: str) -> None:
    with pytest.raises(ValueError, match="is no host"):
        GatewayConfig(allowed_media_domains=[entry])
