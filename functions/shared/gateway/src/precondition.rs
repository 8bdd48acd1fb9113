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
            let tags: Vec<String> = tags.split(',').map(|tag| tag.trim().to_owned()).collect();
            if tags.iter().all(|tag| is_tag(tag)) {
                Ok(Precondition::Matches(tags))
            } else {
                Err(invalid(IF_MATCH, "is '*' or the ETag that GET answered, with its quotes"))
            }
        }
    }
}

/// A tag in quotes. Ours have no commas; a weak one, `W/"..."`, never matches here and is let through to do so.
fn is_tag(text: &str) -> bool {
    let quoted = text.strip_prefix("W/").unwrap_or(text);
    let inside = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inside.is_some_and(|inside| inside.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"'))
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
        for (name, value) in [("If-Match", "a"), ("If-Match", ""), ("If-Match", "\"a"), ("If-None-Match", "\"a\"")] {
            let refused = matches!(of(&[(name, value)]), Err(Error::Invalid(found)) if found[0].pointer == name);
            assert!(refused, "{name}: {value}");
        }
        assert!(of(&[("If-Match", "*"), ("If-None-Match", "*")]).is_err());
    }
}
