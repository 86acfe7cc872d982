"""Where a sandbox may connect to: names and ports are judged first, and then the address that a name led to."""

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from .egress_base import Denied

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_NAME_CHARS = 253
_ADDRESSES_TRIED = 4
_DOMAINS_NAMED = 30

# What the registries of special addresses hold, and no more may be reached than what they leave.
_CLOSED_4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
            "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
            "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
            "168.63.129.16/32",  # public by number, and the metadata of a cloud's own machines
        ),
    )
)  # fmt: skip
_PUBLIC_6 = IPv6Network("2000::/3")
_CLOSED_6 = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "3fff::/20")))
_TRANSLATED = IPv6Network("64:ff9b::/96")
_ISATAP = (0x00005EFE, 0x02005EFE)


@dataclass(frozen=True, slots=True)
class Host:
    """A host as it was asked for: a name in lower case, or an address where `address` is not None."""

    name: str
    address: Address | None = None


def parse_host(text: str) -> Host:
    """Raises ValueError with the reason, for whatever could be understood in more than one way."""
    if text.startswith("[") and text.endswith("]"):
        if "%" in text:
            raise ValueError("it has a zone")
        address = _plain(IPv6Address(text[1:-1]))
        return Host(str(address), address)
    if not text.isascii():
        raise ValueError("it is not ASCII; write it in its xn-- form")
    name = text.lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > _NAME_CHARS or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError("a name has letters, digits, dots and hyphens")
    if _NUMBER.fullmatch(labels[-1]):
        # Whatever else ends in a number, resolvers read as an address in one of its older spellings.
        address = IPv4Address(name)  # which takes no other spelling than the plain one
        return Host(name, address)
    return Host(name)


@dataclass(frozen=True, slots=True)
class EgressRules:
    """Nothing but what is named here. A domain is an exact name, or `*.` and a name for everything below it.

    `networks` are addresses that an operator opens although they are private, and literal addresses within them.
    """

    domains: tuple[str, ...]
    ports: frozenset[int] = frozenset({443, 80})
    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, domains: Iterable[str], ports: Iterable[int], networks: Iterable[str]) -> "EgressRules":
        """From settings. Raises ValueError."""
        names = tuple(domain.lower().removesuffix(".") for domain in domains)
        return cls(names, frozenset(ports), tuple(map(ip_network, networks)))

    def check_target(self, host: Host, port: int) -> None:
        """Raises Denied for a host or port that is not allowed, whatever it resolves to."""
        if host.address is not None:
            if not self._is_opened(host.address):
                raise Denied("address", f"{host.name} is an address; connect by the name of an allowed domain")
        elif not any(_matches(host.name, domain) for domain in self.domains):
            named = ", ".join(self.domains[:_DOMAINS_NAMED])
            raise Denied("domain", f"{host.name} is not among the allowed domains: {named}")
        if port not in self.ports:
            allowed = ", ".join(map(str, sorted(self.ports)))
            raise Denied("port", f"port {port} is not among the allowed ports: {allowed}")

    def usable(self, host: Host, addresses: Iterable[str]) -> tuple[Address, ...]:
        """Those of a host's addresses that may be connected to. Raises Denied where there is none."""
        found = [_plain(ip_address(text)) for text in addresses if "%" not in text]
        usable = tuple(address for address in found if self._is_opened(address) or _is_public(address))
        if not usable:
            led = f" leads to {found[0]}, which" if found else ""
            raise Denied("address", f"{host.name}{led} is no public address")
        return usable[:_ADDRESSES_TRIED]

    def check_not_own(self, address: Address) -> None:
        """Raises Denied for an address of this machine, public or not, unless it was opened."""
        if not self._is_opened(address) and _is_own(address):
            raise Denied("address", f"{address} is the machine that the sandbox runs on")

    def _is_opened(self, address: Address) -> bool:
        return any(address.version == network.version and address in network for network in self.networks)


def _matches(name: str, domain: str) -> bool:
    return name.endswith(domain[1:]) if domain.startswith("*.") else name == domain


def _plain(address: Address) -> Address:
    """One spelling: an IPv4 address that is written as IPv6 is that IPv4 address."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_4)
    if address in _TRANSLATED:
        return _is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    if address.sixtofour is not None:
        return _is_public(address.sixtofour)
    if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP and not _is_public(IPv4Address(int(address) & 0xFFFFFFFF)):
        return False
    return address in _PUBLIC_6 and not any(address in network for network in _CLOSED_6)


def _is_own(address: Address) -> bool:
    """Whether what is sent there would come from there. Asks the kernel, and sends nothing."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect((str(address), 9))
        except OSError:
            return False  # there is no way there at all
        return ip_address(asking.getsockname()[0]) == address
