//! Endpoints of the form `http://host:port` or `https://host:port`, without any other part of a URL.

use std::net::Ipv6Addr;

/// Checks that a text is an endpoint; the error says what an endpoint is.
pub(crate) fn check(text: &str) -> Result<(), &'static str> {
    const WANTED: &str = "is not 'http://host:port' or 'https://host:port'";
    let authority = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).ok_or(WANTED)?;
    let (host, port) = authority.rsplit_once(':').ok_or(WANTED)?;
    // Each port has one spelling: no sign, no leading zeros.
    let is_port = port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port);
    if is_port && is_host(host) { Ok(()) } else { Err(WANTED) }
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    // Underscores aren't allowed in host names, but containers and clusters use them.
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    host.len() <= 253 && host.split('.').all(|label| (1..=63).contains(&label.len()) && label.chars().all(allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_has_a_scheme_a_host_and_a_port_and_nothing_more() {
        for good in [
            "http://10.0.3.17:19530",
            "https://milvus.internal:443",
            "http://localhost:1",
            "http://my_milvus:65535",
            "http://[::1]:19530",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "10.0.3.17:19530",
            "http://",
            "http://host",
            "http://host:",
            "http://host:0",
            "http://host:65536",
            "http://host:+80",
            "http://host:080",
            "http://host:80/",
            "http://host:80/path",
            "http://user:password@host:80",
            "http://:80",
            "http://a..b:80",
            "http://a b:80",
            "http://[::x]:80",
            "ftp://host:80",
            "HTTP://host:80",
            "http://hôte:80",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
