//! The `If-Match` and `If-None-Match` headers of a PUT.

use milvault_jobs::{Error, Precondition};

use crate::{Headers, invalid};

const IF_MATCH: &str = "If-Match";
const IF_NONE_MATCH: &str = "If-None-Match";

/// Reads the condition in the headers (RFC 9110, section 13).
///
/// # Errors
/// [`Error::Invalid`] if the condition isn't supported here. Ignoring it would make a change that the caller wanted to
/// prevent.
pub(crate) fn read(headers: &Headers) -> Result<Precondition, Error> {
    match (headers.get(IF_MATCH).map(str::trim), headers.get(IF_NONE_MATCH).map(str::trim)) {
        (None, None) => Ok(Precondition::None),
        (Some(_), Some(_)) => Err(invalid(IF_NONE_MATCH, "cannot be combined with If-Match")),
        (None, Some("*")) => Ok(Precondition::Absent),
        (None, Some(_)) => Err(invalid(IF_NONE_MATCH, "is '*', with which a PUT only creates")),
        (Some("*"), None) => Ok(Precondition::Exists),
        (Some(tags), None) => {
            let wrong = || invalid(IF_MATCH, "is '*' or an ETag that GET returned, with its quotes");
            Ok(Precondition::Matches(parse_tags(tags).ok_or_else(wrong)?))
        }
    }
}

/// Parses tags separated by commas; a tag may contain a comma itself. A weak tag, `W/"..."`, is accepted but never
/// matches. The crate `headers` compares such a list with a tag, but doesn't return its tags.
fn parse_tags(mut text: &str) -> Option<Vec<String>> {
    let mut tags = Vec::new();
    loop {
        let weak = if text.starts_with("W/") { "W/" } else { "" };
        let (inside, rest) = text[weak.len()..].strip_prefix('"')?.split_once('"')?;
        if !inside.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        tags.push(format!("{weak}\"{inside}\""));
        let rest = rest.trim_start();
        if rest.is_empty() {
            return Some(tags);
        }
        text = rest.strip_prefix(',')?.trim_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headers: &[(&str, &str)]) -> Result<Precondition, Error> {
        read(&headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn conditions_are_read_or_refused_and_never_ignored() {
        assert_eq!(of(&[]).unwrap(), Precondition::None);
        assert_eq!(of(&[("if-none-match", "*")]).unwrap(), Precondition::Absent);
        assert_eq!(of(&[("If-Match", " * ")]).unwrap(), Precondition::Exists);
        let two = Precondition::Matches(vec!["\"a\"".into(), "W/\"b\"".into()]);
        assert_eq!(of(&[("If-Match", "\"a\", W/\"b\"")]).unwrap(), two);
        let with_comma = Precondition::Matches(vec!["\"a,b\"".into(), "\"c\"".into()]);
        assert_eq!(of(&[("If-Match", "\"a,b\",\"c\"")]).unwrap(), with_comma);
        let wrong = ["a", "", "\"a", "\"a\" \"b\"", "\"a\",", "\"a\nb\""];
        for (name, value) in wrong.map(|value| ("If-Match", value)).into_iter().chain([("If-None-Match", "\"a\"")]) {
            let refused = matches!(of(&[(name, value)]), Err(Error::Invalid(found)) if found[0].pointer == name);
            assert!(refused, "{name}: {value}");
        }
        assert!(of(&[("If-Match", "*"), ("If-None-Match", "*")]).is_err());
    }
}
