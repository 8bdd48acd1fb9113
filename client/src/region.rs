//! Which region an API is in, by its address.

/// What API Gateway's addresses end with, behind the region: of the partitions, over IPv4 alone and over both, and of
/// interface endpoints.
const SUFFIXES: [&str; 5] =
    ["amazonaws.com", "amazonaws.com.cn", "api.aws", "api.amazonwebservices.com.cn", "vpce.amazonaws.com"];

/// The region in the name of an API Gateway's host; a domain of one's own has none.
pub(crate) fn of_host(host: &str) -> Option<String> {
    let (_, rest) = host.split_once(".execute-api.")?;
    let (region, suffix) = rest.split_once('.')?;
    SUFFIXES.contains(&suffix).then(|| region.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_in_the_name_of_an_api() {
        for (host, region) in [
            ("a1b2.execute-api.eu-west-1.amazonaws.com", Some("eu-west-1")),
            ("a1b2.execute-api.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("a1b2.execute-api.eu-west-1.api.aws", Some("eu-west-1")),
            ("vpce-1-2.execute-api.eu-west-1.vpce.amazonaws.com", Some("eu-west-1")),
            ("a1b2.execute-api.localhost", None),
            ("a1b2.execute-api.eu-west-1.example.org", None),
            ("backups.example.org", None),
        ] {
            assert_eq!(of_host(host).as_deref(), region, "{host}");
        }
    }
}
