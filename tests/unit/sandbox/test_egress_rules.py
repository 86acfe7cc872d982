"""Which names, ports and addresses a sandbox may reach: every private address is refused, however it is written."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.sandbox.egress_base import Denied
from actors.sandbox.egress_rules import EgressRules, Host, parse_host

RULES = EgressRules.of(["example.org", "*.Example.net", "*.example.com."], [443, 80], [])

PRIVATE_4 = [
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16",
    "224.0.0.0/4", "255.255.255.255/32", "169.254.169.254/32", "168.63.129.16/32", "100.100.100.200/32",
]  # fmt: skip
PRIVATE_6 = ["::/128", "::1/128", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8", "fd00:ec2::254/128", "2001::/32"]


def within(networks):
    """Addresses of these networks, their first and last ones often."""
    return st.sampled_from(networks).flatmap(
        lambda network: st.builds(
            lambda number: (
                ip_address(int(network.network_address) + number)
                if network.version == 4
                else IPv6Address(int(network.network_address) + number)
            ),
            st.integers(0, network.num_addresses - 1),
        )
    )


private_4 = within([IPv4Network(text) for text in PRIVATE_4])
private_6 = within([IPv6Network(text) for text in PRIVATE_6])


def as_ipv6(address: IPv4Address) -> list[IPv6Address]:
    """Every form in which an IPv6 address can carry this one."""
    number = int(address)
    return [
        IPv6Address(number),  # compatible
        IPv6Address(0xFFFF << 32 | number),  # mapped
        IPv6Address(0xFFFF << 48 | number),  # translated
        IPv6Address(0x64FF9B << 96 | number),  # NAT64
        IPv6Address(0x64FF9B0001 << 80 | number),  # NAT64 of a site
        IPv6Address(0x2002 << 112 | number << 80),  # 6to4
        IPv6Address(0x2002 << 112 | number << 80 | 1),
        IPv6Address(0x20010000 << 96 | number << 64 | 1),  # Teredo, as its server
        IPv6Address(0x20010000 << 96 | (number ^ 0xFFFFFFFF)),  # Teredo, as its client
        IPv6Address(0x2A00 << 112 | 0x5EFE << 32 | number),  # ISATAP
    ]


def as_text(address: IPv4Address) -> list[str]:
    """Every way in which resolvers and browsers read this address."""
    a, b, c, d = address.packed
    number = int(address)
    return [
        str(address), f"{address}.", f"{a}.{b}.{c * 256 + d}", f"{a}.{number & 0xFFFFFF}", str(number), hex(number),
        hex(number).upper(), f"0{number:o}", ".".join(map(hex, address.packed)),
        ".".join(f"0{part:o}" for part in address.packed), ".".join(f"{part:03}" for part in address.packed),
        f"0x{a:02x}.{b}.{c}.{d}", f"{number}.", f"[{address}]", *(f"[{six}]" for six in as_ipv6(address)),
        *(f"[{six.exploded}]" for six in as_ipv6(address)), f"[::ffff:{address}]", f"[::{address}%1]",
        "".join(chr(0xFEE0 + ord(digit)) if digit.isdigit() else digit for digit in str(address)),  # full width
        str(address).replace(".", "。"), str(address).replace(".", "%2e"),
    ]  # fmt: skip


def refused(rules: EgressRules, text: str) -> bool:
    try:
        rules.check_target(parse_host(text), 443)
    except (ValueError, Denied):
        return True
    return False


@given(private_4 | st.ip_addresses(v=4))
def test_no_address_is_a_host_in_any_spelling(address):
    assert [text for text in as_text(address) if not refused(RULES, text)] == []


@given(private_6 | st.ip_addresses(v=6))
def test_no_ipv6_address_is_a_host_in_any_spelling(address):
    for text in (f"[{address}]", f"[{address.exploded.upper()}]", f"[{address}%eth0]", str(address)):
        assert refused(RULES, text)


@given(private_4)
def test_a_name_that_leads_to_a_private_address_is_refused(address):
    for form in [address, *as_ipv6(address)]:
        with pytest.raises(Denied, match="no public address"):
            RULES.usable(Host("example.org"), [str(form)])


@given(private_6)
def test_a_name_that_leads_to_a_private_ipv6_address_is_refused(address):
    for text in (str(address), address.exploded, f"{address}%eth0"):
        with pytest.raises(Denied, match="no public address"):
            RULES.usable(Host("example.org"), [text])


@given(st.ip_addresses())
def test_what_python_knows_as_special_is_never_public(address):
    """A second opinion, by other tables than ours."""
    try:
        usable = RULES.usable(Host("example.org"), [str(address)])
    except Denied:
        return
    [plain] = usable
    inner = getattr(plain, "sixtofour", None) or plain
    if isinstance(plain, IPv6Address) and plain in IPv6Network("64:ff9b::/96"):
        inner = IPv4Address(int(plain) & 0xFFFFFFFF)
    assert inner.is_global
    assert not inner.is_multicast


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "151.101.0.223", "2a04:4e42::223", "64:ff9b::808:808", "2002:808:808::"]
)
def test_public_addresses_are_usable(address):
    assert RULES.usable(Host("example.org"), [address]) == (ip_address(address),)


def test_only_the_usable_ones_of_several_are_used():
    found = RULES.usable(Host("example.org"), ["10.0.0.1", "8.8.8.8", "::1", "::ffff:127.0.0.1", "9.9.9.9"])
    assert found == (ip_address("8.8.8.8"), ip_address("9.9.9.9"))


def test_a_name_that_leads_nowhere_is_refused():
    with pytest.raises(Denied):
        RULES.usable(Host("example.org"), [])


@pytest.mark.parametrize(
    "name", ["example.org", "EXAMPLE.org", "example.org.", "a.example.net", "a.b.example.net", "x.example.com"]
)
def test_allowed_names(name):
    RULES.check_target(parse_host(name), 443)


@pytest.mark.parametrize(
    "name",
    [
        "example.net", "example.com", "an.example.org", "example.org.evil.org", "evilexample.net", "org", "localhost",
        "example.org..", ".example.net", "", ".", "a..example.net", "-a.example.net", "a-.example.net",
        "a b.example.net", "a\t.example.net", "a/b.example.net", "a\\.example.net", "a@example.org", "a%2eexample.net",
        "example.org\0", "*.example.net", "bücher.example.net",
        "ex\N{CYRILLIC SMALL LETTER A}mple.org", "x" * 64 + ".example.net",
        "a." * 130 + "example.net", "[example.org]", "[", "]", "[]",
    ],
)  # fmt: skip
def test_other_names_are_refused(name):
    assert refused(RULES, name)


def test_ports_are_a_list_too():
    with pytest.raises(Denied, match="port 22 is not among the allowed ports: 80, 443"):
        RULES.check_target(Host("example.org"), 22)


def test_a_network_that_is_opened_is_open_and_no_more():
    rules = EgressRules.of(["example.org"], [443], ["10.1.0.0/16", "fd00:1::/32"])
    assert rules.usable(Host("example.org"), ["10.1.2.3"]) == (IPv4Address("10.1.2.3"),)
    assert rules.usable(Host("example.org"), ["::ffff:10.1.2.3"]) == (IPv4Address("10.1.2.3"),)
    assert rules.usable(Host("example.org"), ["fd00:1::1"]) == (IPv6Address("fd00:1::1"),)
    rules.check_target(parse_host("10.1.2.3"), 443)
    rules.check_target(parse_host("[fd00:1::1]"), 443)
    for address in ("10.2.0.1", "fd00:2::1", "127.0.0.1"):
        with pytest.raises(Denied):
            rules.usable(Host("example.org"), [address])
    assert refused(rules, "10.2.0.1")
    assert refused(rules, "8.8.8.8")  # public, and still no name
