//! Opaque cursors: where a listing goes on, signed, and bound to the filters that it was begun with.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use milvault_jobs::{CursorKey, FieldError};
use ring::hmac;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cursor {
    after: String,
    /// Of the sort key and the listing, in base64.
    signature: String,
}

/// The cursor that goes on after this sort key, in the listing that `listing` describes.
pub(crate) fn encode(after: &str, listing: &str, key: &CursorKey) -> String {
    let tag = hmac::sign(&hmac_key(key), &signed(after, listing));
    let cursor = Cursor { after: after.to_owned(), signature: URL_SAFE_NO_PAD.encode(tag) };
    // Two strings always serialise.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&cursor).unwrap_or_default())
}

/// The sort key that a cursor goes on after.
///
/// # Errors
/// For what isn't a cursor of ours, and for a cursor of another listing.
pub(crate) fn decode(text: &str, listing: &str, key: &CursorKey) -> Result<String, FieldError> {
    let cursor: Option<Cursor> = URL_SAFE_NO_PAD.decode(text).ok().and_then(|json| serde_json::from_slice(&json).ok());
    let cursor = cursor.ok_or_else(|| unknown("is not a cursor that a listing gave"))?;
    let signature = URL_SAFE_NO_PAD.decode(&cursor.signature).unwrap_or_default();
    match hmac::verify(&hmac_key(key), &signed(&cursor.after, listing), &signature) {
        Ok(()) => Ok(cursor.after),
        Err(_) => Err(unknown("is not a cursor that this listing gave, with these filters")),
    }
}

/// A cursor that doesn't lead anywhere.
pub(crate) fn unknown(detail: &str) -> FieldError {
    FieldError::new("cursor", detail)
}

fn hmac_key(key: &CursorKey) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes())
}

/// The length keeps the two apart.
fn signed(after: &str, listing: &str) -> Vec<u8> {
    format!("{}\n{after}\n{listing}", after.len()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> CursorKey {
        CursorKey::new("of a test")
    }

    #[test]
    fn a_cursor_goes_on_where_it_was_given_and_only_with_the_same_filters() {
        let cursor = encode("bk-1", "status=AVAILABLE", &key());
        assert_eq!(decode(&cursor, "status=AVAILABLE", &key()).unwrap(), "bk-1");
        assert!(decode(&cursor, "status=FAILED", &key()).unwrap_err().detail.contains("these filters"));
    }

    #[test]
    fn a_cursor_is_safe_in_a_query_as_it_is() {
        let cursor = encode("~~~???>>>", "x", &key());
        assert!(cursor.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'), "{cursor}");
    }

    #[test]
    fn what_no_listing_gave_is_no_cursor() {
        for bad in ["", "x", "e30", "bnVsbA", "%%%", "äöü"] {
            assert_eq!(decode(bad, "x", &key()).unwrap_err().pointer, "cursor", "{bad}");
        }
    }

    #[test]
    fn a_cursor_cannot_be_made_up_without_the_key() {
        let forged = encode("bk-1", "x", &CursorKey::new("a guess"));
        assert_eq!(decode(&forged, "x", &key()).unwrap_err().pointer, "cursor");
        let json = serde_json::json!({ "after": "bk-1", "signature": "" });
        assert!(decode(&URL_SAFE_NO_PAD.encode(json.to_string()), "x", &key()).is_err());
    }
}
