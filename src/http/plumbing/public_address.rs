//! How clients reach this server: the names that they use, the proxies in front of it, and the path below which its routes are.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// How clients reach a server. The default is a server for clients on the same machine, without a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicAddress {
    /// The names and IP addresses that the header `Host` may have, besides those of the same machine.
    pub hosts: Vec<HostName>,
    /// Whether `Host` may be `localhost`, an address that begins with 127, or `[::1]`.
    pub allows_loopback_hosts: bool,
    /// Whether clients connect to this process itself over TLS.
    pub is_https: bool,
    /// The proxies whose `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host` are believed.
    pub proxies: Vec<Network>,
    /// Empty, or the path below which all routes are, like `/taskbell`.
    pub path_prefix: String,
}

impl Default for PublicAddress {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            allows_loopback_hosts: true,
            is_https: false,
            proxies: Vec::new(),
            path_prefix: String::new(),
        }
    }
}

impl PublicAddress {
    /// Whether a request may have this header `Host`. Other names may be those of another site whose pages try to reach this
    /// server (DNS rebinding).
    #[must_use]
    pub fn allows_host(&self, header: &str) -> bool {
        let Some(host) = HostName::in_header(header) else { return false };
        (self.allows_loopback_hosts && host.is_loopback()) || self.hosts.contains(&host)
    }

    /// Whether this peer is a trusted proxy.
    #[must_use]
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(peer))
    }
}

/// A name or an IP address that a server is reached by, without a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostName {
    /// A DNS name in lower case, without a dot at its end.
    Name(String),
    /// An IP address.
    Ip(IpAddr),
}

/// A text is neither a DNS name nor an IP address, or not a network. The field is the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not valid")]
pub struct InvalidAddress(pub String);

impl HostName {
    /// The host in a header `Host`, whose port is ignored. `None` if browsers never send such a header.
    #[must_use]
    pub fn in_header(header: &str) -> Option<Self> {
        if let Some(rest) = header.strip_prefix('[') {
            let (address, port) = rest.split_once(']')?;
            let is_valid = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
            return is_valid.then(|| address.parse::<Ipv6Addr>().ok().map(|v6| Self::Ip(v6.into())))?;
        }
        let name = match header.split_once(':') {
            Some((name, port)) => is_port(port).then_some(name)?,
            None => header,
        };
        name.parse().ok().filter(|host| !matches!(host, Self::Ip(IpAddr::V6(_))))
    }

    fn is_loopback(&self) -> bool {
        match self {
            Self::Name(name) => name == "localhost",
            Self::Ip(address) => address.is_loopback(),
        }
    }
}

impl FromStr for HostName {
    type Err = InvalidAddress;

    /// An IPv6 address may be in brackets.
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse() {
            return Ok(Self::Ip(address));
        }
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        // A name whose last label is a number is another way to write an IP address, as `127.1` and `2130706433` are.
        let last = text.rsplit('.').next().unwrap_or_default();
        let is_number = last.starts_with("0x") || last.starts_with("0X") || last.bytes().all(|b| b.is_ascii_digit());
        if text.len() <= 253 && text.split('.').all(is_label) && !is_number {
            return Ok(Self::Name(text.to_ascii_lowercase()));
        }
        Err(InvalidAddress(text.to_owned()))
    }
}

/// 1 to 5 digits.
fn is_port(text: &str) -> bool {
    (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The addresses that begin with the same bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether this address is in the network. An IPv4 address that is written as an IPv6 address counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        prefix(address.to_canonical(), self.bits) == prefix(self.address, self.bits)
    }
}

/// The address with only its first bits, the other bits being 0.
#[must_use]
pub fn prefix(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}

impl FromStr for Network {
    type Err = InvalidAddress;

    /// An address, like `10.0.0.5`, or the beginning of addresses and the number of its bits, like `10.0.0.0/8`.
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress(text.to_owned());
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).ok().filter(|bits| *bits <= most).ok_or_else(invalid)?;
        Ok(Self { address, bits })
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(hosts: &[&str], allows_loopback_hosts: bool) -> PublicAddress {
        let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
        PublicAddress { hosts, allows_loopback_hosts, ..PublicAddress::default() }
    }

    #[test]
    fn only_the_names_of_the_server_are_hosts_however_an_address_is_written() {
        let public = public(&["tasks.example", "10.0.0.5", "fd00::5"], true);
        let allowed = [
            "tasks.example",
            "TASKS.Example",
            "tasks.example:7070",
            "10.0.0.5",
            "10.0.0.5:443",
            "[fd00::5]",
            "[fd00:0:0::5]:7070",
            "localhost",
            "LocalHost:1",
            "127.0.0.1:65535",
            "127.8.9.10",
            "[::1]",
            "[::1]:80",
        ];
        for host in allowed {
            assert!(public.allows_host(host), "{host}");
        }
        let refused = [
            "",
            " ",
            ":80",
            "evil.example",
            "evil.example:7070",
            "tasks.example.evil.example",
            "evil-tasks.example",
            "tasks.example.",
            "localhost.",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.example@tasks.example",
            "tasks.example@evil.example",
            "user:password@localhost",
            "http://localhost",
            "localhost/",
            "localhost:",
            "localhost:80:80",
            "localhost:0x50",
            "localhost:123456",
            "localhost, evil.example",
            "localhost evil.example",
            "2130706433",
            "0x7f000001",
            "127.1",
            "127.0.1",
            "0177.0.0.1",
            "127.0.0.01",
            "0x7f.0.0.1",
            "0.0.0.0",
            "192.168.0.1",
            "10.0.0.6",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:10.0.0.5]",
            "[::1",
            "::1",
            "[::1%25lo]",
            "[::1]evil.example",
            "[::1]:",
            "[localhost]",
            "[127.0.0.1]",
            "l\u{f6}calhost",
            "localhost\0",
            "%6c%6f%63alhost",
        ];
        for host in refused {
            assert!(!public.allows_host(host), "{host}");
        }
    }

    #[test]
    fn a_server_for_other_machines_has_no_loopback_names() {
        let public = public(&["tasks.example"], false);
        assert!(public.allows_host("tasks.example"));
        for host in ["localhost", "127.0.0.1", "[::1]"] {
            assert!(!public.allows_host(host), "{host}");
        }
    }

    #[test]
    fn a_network_contains_the_addresses_that_begin_with_its_bits() {
        let contains =
            |network: &str, address: &str| network.parse::<Network>().unwrap().contains(address.parse().unwrap());
        assert!(contains("10.0.0.5", "10.0.0.5") && !contains("10.0.0.5", "10.0.0.4"));
        assert!(contains("10.1.2.3/8", "10.200.0.1") && !contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("10.0.0.0/8", "::ffff:10.0.0.1") && !contains("10.0.0.0/8", "::a00:1"));
        assert!(contains("0.0.0.0/0", "1.2.3.4") && !contains("0.0.0.0/0", "::1"));
        assert!(contains("fd00::/8", "fd12::1") && !contains("fd00::/8", "fe00::1"));
        for invalid in ["", "10.0.0", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/x", "proxy.example", "/8"] {
            assert_eq!(invalid.parse::<Network>(), Err(InvalidAddress(invalid.to_owned())));
        }
    }
}
