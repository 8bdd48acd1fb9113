//! Opaque cursors: where a listing goes on, bound to the filters that it was begun with.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use milvault_jobs::FieldError;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cursor {
    after: String,
    of: String,
}

/// The cursor that goes on after this sort key, in the listing that `listing` describes.
pub(crate) fn encode(after: &str, listing: &str) -> String {
    let cursor = Cursor { after: after.to_owned(), of: digest(listing) };
    // Two strings always serialise.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&cursor).unwrap_or_default())
}

/// The sort key that a cursor goes on after.
///
/// # Errors
/// For what isn't a cursor, and for a cursor of another listing.
pub(crate) fn decode(text: &str, listing: &str) -> Result<String, FieldError> {
    let cursor: Cursor = URL_SAFE_NO_PAD
        .decode(text)
        .ok()
        .and_then(|json| serde_json::from_slice(&json).ok())
        .ok_or_else(|| unknown("is not a cursor that a listing gave"))?;
    if cursor.of == digest(listing) {
        Ok(cursor.after)
    } else {
        Err(unknown("belongs to a listing with other filters"))
    }
}

/// A cursor that doesn't lead anywhere.
pub(crate) fn unknown(detail: &str) -> FieldError {
    FieldError::new("cursor", detail)
}

/// Eight bytes tell listings apart; no more is at stake.
fn digest(listing: &str) -> String {
    Sha256::digest(listing.as_bytes())[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_goes_on_where_it_was_given_and_only_with_the_same_filters() {
        let cursor = encode("bk-1", "status=AVAILABLE");
        assert_eq!(decode(&cursor, "status=AVAILABLE").unwrap(), "bk-1");
        assert!(decode(&cursor, "status=FAILED").unwrap_err().detail.contains("other filters"));
    }

    #[test]
    fn a_cursor_is_safe_in_a_query_as_it_is() {
        let cursor = encode("~~~???>>>", "x");
        assert!(cursor.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'), "{cursor}");
    }

    #[test]
    fn what_no_listing_gave_is_no_cursor() {
        for bad in ["", "x", "e30", "bnVsbA", "%%%", "äöü"] {
            assert_eq!(decode(bad, "x").unwrap_err().pointer, "cursor", "{bad}");
        }
    }
}
