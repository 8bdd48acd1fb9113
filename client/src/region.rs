//! The region in an API's address.

/// The part of API Gateway's host names after the region: for the partitions, over IPv4 only and dual-stack, and for
/// interface endpoints.
const SUFFIXES: [&str; 5] =
    ["amazonaws.com", "amazonaws.com.cn", "api.aws", "api.amazonwebservices.com.cn", "vpce.amazonaws.com"];

/// Returns the region in an API Gateway's host name; a custom domain has none.
pub(crate) fn in_host(host: &str) -> Option<String> {
    let (_, rest) = host.split_once(".execute-api.")?;
    let (region, suffix) = rest.split_once('.')?;
    SUFFIXES.contains(&suffix).then(|| region.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_in_the_host_name_of_an_api() {
        for (host, region) in [
            ("a1b2.execute-api.eu-west-1.amazonaws.com", Some("eu-west-1")),
            ("a1b2.execute-api.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("a1b2.execute-api.eu-west-1.api.aws", Some("eu-west-1")),
            ("vpce-1-2.execute-api.eu-west-1.vpce.amazonaws.com", Some("eu-west-1")),
            ("a1b2.execute-api.localhost", None),
            ("a1b2.execute-api.eu-west-1.example.org", None),
            ("backups.example.org", None),
        ] {
            assert_eq!(in_host(host).as_deref(), region, "{host}");
        }
    }
}
