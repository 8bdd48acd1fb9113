//! The servers that a deployment may connect to, because whoever registers an instance chooses its endpoint.

use std::{net::IpAddr, str::FromStr};

use ipnet::{IpNet, Ipv6Net};

use crate::Invalid;

/// The servers that a deployment may connect to. Addresses that concern only one host, including those of the metadata
/// services, are never allowed.
///
/// There is no default: a deployment that allows any server has to say so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedEndpoints(Option<Vec<Rule>>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    /// This name.
    Name(String),
    /// Every name that ends with this text, which begins with a dot.
    Below(String),
    /// Every address of this network, under any name.
    Network(IpNet),
}

/// The network in which EC2 serves an instance's credentials, besides the link-local addresses.
const METADATA: Ipv6Net = Ipv6Net::new_assert(std::net::Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 32);

impl AllowedEndpoints {
    /// Allows all servers except this machine, which Lambda's own interface runs on.
    pub fn any() -> Self {
        Self(None)
    }

    /// Whether an endpoint, `http://host:port`, may be allowed, as far as its text tells. If the list has networks, a
    /// name is checked again when it is resolved.
    pub fn may_allow(&self, endpoint: &str) -> bool {
        let host = host(endpoint);
        match (host.parse(), &self.0) {
            (Ok(address), _) => self.allows(host, address),
            (Err(_), _) if ends_in_a_number(host) => false,
            (Err(_), None) => true,
            (Err(_), Some(rules)) => rules.iter().any(|rule| rule.names(host) || matches!(rule, Rule::Network(_))),
        }
    }

    /// Whether a connection to this host at this address is allowed.
    pub fn allows(&self, host: &str, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let is_never = address.is_unspecified()
            || address.is_multicast()
            || match address {
                IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
                IpAddr::V6(address) => address.is_unicast_link_local() || METADATA.contains(&address),
            };
        match &self.0 {
            _ if is_never => false,
            None => !address.is_loopback(),
            Some(rules) => rules.iter().any(|rule| match rule {
                // Someone who can add a name to this domain must not reach what runs on this machine.
                Rule::Below(_) => rule.names(host) && !address.is_loopback(),
                Rule::Name(_) => rule.names(host),
                Rule::Network(network) => network.contains(&address),
            }),
        }
    }
}

impl Rule {
    fn names(&self, host: &str) -> bool {
        match self {
            Self::Name(name) => host.eq_ignore_ascii_case(name),
            Self::Below(suffix) => host.to_ascii_lowercase().ends_with(suffix.as_str()),
            Self::Network(_) => false,
        }
    }
}

/// Whether URLs interpret a host as an IPv4 address (URL Standard, "ends in a number checker"). Unusual spellings, such
/// as `2852039166`, `127.1` or `0x7f.1`, would be an address to one library and a name to another.
fn ends_in_a_number(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let last = host.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let is_hexadecimal = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|c| c.is_ascii_hexdigit()));
    is_hexadecimal || !last.is_empty() && last.bytes().all(|c| c.is_ascii_digit())
}

/// The host of `http://host:port`; an IPv6 address without its brackets.
fn host(endpoint: &str) -> &str {
    let authority = endpoint.split_once("://").map_or(endpoint, |(_, authority)| authority);
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Parses names, `*.names` and networks such as `10.0.0.0/8`, separated by commas; a single `*` allows any server.
impl FromStr for AllowedEndpoints {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.trim() == "*" {
            return Ok(Self::any());
        }
        let rule = |part: &str| {
            let part = part.trim().to_ascii_lowercase();
            let is_name = |name: &str| {
                let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
                name.split('.').all(|label| !label.is_empty() && label.chars().all(allowed))
            };
            match (part.parse::<IpNet>(), part.parse::<IpAddr>(), part.strip_prefix("*.")) {
                (Ok(network), _, _) => Ok(Rule::Network(network)),
                (_, Ok(address), _) => Ok(Rule::Network(address.into())),
                (_, _, Some(suffix)) if is_name(suffix) => Ok(Rule::Below(format!(".{suffix}"))),
                (_, _, None) if is_name(&part) => Ok(Rule::Name(part)),
                _ => Err(Invalid::new("not a host, a *.suffix or a network such as 10.0.0.0/8")),
            }
        };
        Ok(Self(Some(text.split(',').map(rule).collect::<Result<_, _>>()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(text: &str) -> AllowedEndpoints {
        text.parse().unwrap()
    }

    fn has(allowed: &AllowedEndpoints, host: &str, address: &str) -> bool {
        allowed.allows(host, address.parse().unwrap())
    }

    #[test]
    fn a_star_allows_everything_but_this_machine_and_what_is_one_hosts_own() {
        let all = allowed("*");
        for endpoint in ["http://10.0.3.17:19530", "https://milvus.example.com:443", "http://[2001:db8::1]:19530"] {
            assert!(all.may_allow(endpoint), "{endpoint}");
        }
        for endpoint in [
            "http://127.0.0.1:9001",
            "http://[::1]:9001",
            "http://[::ffff:127.0.0.1]:9001",
            "http://169.254.169.254:80",
            "http://[::ffff:169.254.169.254]:80",
            "http://[fe80::1]:80",
            "http://[fd00:ec2::254]:80",
            "http://0.0.0.0:80",
            "http://[::]:80",
            "http://224.0.0.1:80",
            "http://255.255.255.255:80",
            // Some libraries read these as addresses all the same.
            "http://2852039166:80",
            "http://0xa9fea9fe:80",
            "http://127.1:9001",
            "http://0x7f.1:9001",
            "http://0177.0.0.1:9001",
            "http://127.0.0.1.:9001",
            "http://10.1:19530",
        ] {
            assert!(!all.may_allow(endpoint), "{endpoint}");
        }
        assert!(!has(&all, "evil.example.com", "169.254.169.254"), "whatever its name");
        assert!(!has(&all, "evil.example.com", "127.0.0.1"));
    }

    #[test]
    fn a_list_has_names_names_below_and_networks() {
        let list = allowed("milvus.internal, *.Svc.cluster.local,10.1.0.0/16, 192.168.7.7,fd12::/16");
        for (host, address) in [
            ("milvus.internal", "172.16.0.1"),
            ("MILVUS.internal", "172.16.0.1"),
            ("a.svc.cluster.local", "172.16.0.1"),
            ("a.b.svc.cluster.local", "172.16.0.1"),
            ("anything", "10.1.2.3"),
            ("192.168.7.7", "192.168.7.7"),
            ("anything", "fd12::5"),
        ] {
            assert!(has(&list, host, address), "{host} {address}");
        }
        for (host, address) in [
            ("milvus.internal", "169.254.169.254"),
            ("other.internal", "172.16.0.1"),
            ("svc.cluster.local", "172.16.0.1"),
            ("evilsvc.cluster.local", "172.16.0.1"),
            ("milvus.internal.example.com", "172.16.0.1"),
            ("anything", "10.2.0.1"),
            ("192.168.7.8", "192.168.7.8"),
        ] {
            assert!(!has(&list, host, address), "{host} {address}");
        }
        assert!(list.may_allow("http://10.1.0.1:19530") && !list.may_allow("http://10.2.0.1:19530"));
        assert!(list.may_allow("http://unknown.example.com:1"), "what it resolves to tells");
        assert!(!list.may_allow("http://2852039166:80") && !list.may_allow("http://10.1:80"));
        assert!(
            !has(&list, "a.svc.cluster.local", "127.0.0.1") && has(&allowed("localhost"), "localhost", "127.0.0.1")
        );
        assert!(!allowed("milvus.internal").may_allow("http://unknown.example.com:1"));
        assert!(allowed("127.0.0.0/8").may_allow("http://127.0.0.1:19530"), "when it is asked for");
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for bad in ["", " ", ",", "a,,b", "*,a", "**", "a*.b", "*.", "http://a", "a:80", "10.0.0.0/33", "a b"] {
            assert!(bad.parse::<AllowedEndpoints>().is_err(), "{bad}");
        }
    }
}
