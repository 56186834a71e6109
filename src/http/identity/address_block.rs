//! Blocks of IP addresses: `10.0.0.1`, `10.0.0.0/8`, `fd00::/8`.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// The addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressBlock {
    first: IpAddr,
    prefix: u8,
}

/// Why a text is no block of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} {1}")]
pub struct InvalidAddressBlock(String, &'static str);

impl AddressBlock {
    /// Whether the address is in the block. An IPv4 address that is written as IPv6 (`::ffff:10.0.0.1`) counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && first_of_block(address, self.prefix) == self.first
    }
}

/// The first address of the block of this address. A longer prefix than the address has bits counts as all of them.
pub(super) fn first_of_block(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix.into())).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix.into())).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

impl FromStr for AddressBlock {
    type Err = InvalidAddressBlock;

    fn from_str(text: &str) -> Result<Self, InvalidAddressBlock> {
        let invalid = |why| InvalidAddressBlock(text.to_owned(), why);
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr =
            address.parse().map_err(|_| invalid("is not an IP address or a block like 10.0.0.0/8"))?;
        let first = address.to_canonical();
        if first != address {
            return Err(invalid("must be written as IPv4"));
        }
        let bits = if first.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(bits), str::parse).ok().filter(|prefix| (1..=bits).contains(prefix));
        let prefix = prefix.ok_or_else(|| invalid("has no prefix length from 1 to 32 (IPv6: 128)"))?;
        if first_of_block(first, prefix) != first {
            return Err(invalid("has bits after its prefix that are not zero"));
        }
        Ok(Self { first, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_contains_the_addresses_with_its_prefix_and_no_others() {
        for (block, inside, outside) in [
            ("10.0.0.1", "10.0.0.1", "10.0.0.2"),
            ("10.0.0.0/8", "10.255.3.4", "11.0.0.1"),
            ("10.0.0.0/8", "::ffff:10.1.1.1", "::10.1.1.1"),
            ("192.168.4.0/22", "192.168.7.255", "192.168.8.0"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("2001:db8::1", "2001:db8::1", "2001:db8::2"),
            ("128.0.0.0/1", "255.1.1.1", "127.1.1.1"),
        ] {
            let parsed: AddressBlock = block.parse().unwrap();
            assert!(parsed.contains(inside.parse().unwrap()), "{block} {inside}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{block} {outside}");
        }
    }

    #[test]
    fn a_text_that_says_another_block_than_it_means_is_refused() {
        for text in ["", "10.0.0", "10.0.0.0/0", "0.0.0.0/0", "::/0", "10.0.0.0/33", "10.0.0.1/8", "fd00::1/8", "proxy"]
        {
            assert!(text.parse::<AddressBlock>().is_err(), "{text}");
        }
        for text in ["10.0.0.0/", "10.0.0.0/-8", "10.0.0.0/8/8", "::ffff:10.0.0.1", "fd00::/129", " 10.0.0.1"] {
            assert!(text.parse::<AddressBlock>().is_err(), "{text}");
        }
    }
}
