//! The `If-Match` and `If-None-Match` headers of a PUT.

use milvault_jobs::{Error, Precondition};

use crate::{Headers, invalid};

const IF_MATCH: &str = "If-Match";
const IF_NONE_MATCH: &str = "If-None-Match";

/// What the headers ask for (RFC 9110, section 13).
///
/// # Errors
/// [`Error::Invalid`] for what can't be meant of a PUT here: passing over a condition would make the change that the
/// caller wanted to be kept from.
pub(crate) fn read(headers: &Headers) -> Result<Precondition, Error> {
    match (headers.get(IF_MATCH).map(str::trim), headers.get(IF_NONE_MATCH).map(str::trim)) {
        (None, None) => Ok(Precondition::None),
        (Some(_), Some(_)) => Err(invalid(IF_NONE_MATCH, "doesn't go together with If-Match")),
        (None, Some("*")) => Ok(Precondition::Absent),
        (None, Some(_)) => Err(invalid(IF_NONE_MATCH, "is '*', which lets a PUT only make something new")),
        (Some("*"), None) => Ok(Precondition::Exists),
        (Some(tags), None) => {
            let wrong = || invalid(IF_MATCH, "is '*' or the ETag that GET answered, with its quotes");
            Ok(Precondition::Matches(listed(tags).ok_or_else(wrong)?))
        }
    }
}

/// Tags with commas between them, which tags may hold too. A weak one, `W/"..."`, never matches here and is let through to
/// do so.
fn listed(mut text: &str) -> Option<Vec<String>> {
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
    fn conditions_are_read_or_refused_and_never_passed_over() {
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
