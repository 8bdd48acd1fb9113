//! Opaque cursors: a signed position in a listing, bound to the listing's filters.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use milvault_jobs::{CursorKey, FieldError};
use ring::hmac;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cursor {
    after: String,
    /// The signature of the sort key and the listing, in base64.
    signature: String,
}

/// Makes the cursor that continues after this sort key, in the listing that `listing` describes.
pub(crate) fn encode(after: &str, listing: &str, key: &CursorKey) -> String {
    let tag = hmac::sign(&hmac_key(key), &signed(after, listing));
    let cursor = Cursor { after: after.to_owned(), signature: URL_SAFE_NO_PAD.encode(tag) };
    // The serialisation of two strings can't fail.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&cursor).unwrap_or_default())
}

/// Returns the sort key that a cursor continues after.
///
/// # Errors
/// The text isn't a cursor with a valid signature, or the cursor is of another listing.
pub(crate) fn decode(text: &str, listing: &str, key: &CursorKey) -> Result<String, FieldError> {
    let cursor: Option<Cursor> = URL_SAFE_NO_PAD.decode(text).ok().and_then(|json| serde_json::from_slice(&json).ok());
    let cursor = cursor.ok_or_else(|| unknown("is not a cursor that a listing returned"))?;
    let signature = URL_SAFE_NO_PAD.decode(&cursor.signature).unwrap_or_default();
    match hmac::verify(&hmac_key(key), &signed(&cursor.after, listing), &signature) {
        Ok(()) => Ok(cursor.after),
        Err(_) => Err(unknown("is not a cursor that this listing returned with these filters")),
    }
}

/// Makes the error for a cursor that isn't valid.
pub(crate) fn unknown(detail: &str) -> FieldError {
    FieldError::new("cursor", detail)
}

fn hmac_key(key: &CursorKey) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes())
}

/// Returns the signed bytes. The length makes the boundary between the two texts unambiguous.
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
    fn a_cursor_continues_its_listing_only_with_the_same_filters() {
        let cursor = encode("bk-1", "status=AVAILABLE", &key());
        assert_eq!(decode(&cursor, "status=AVAILABLE", &key()).unwrap(), "bk-1");
        assert!(decode(&cursor, "status=FAILED", &key()).unwrap_err().detail.contains("these filters"));
    }

    #[test]
    fn a_cursor_needs_no_escaping_in_a_query() {
        let cursor = encode("~~~???>>>", "x", &key());
        assert!(cursor.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'), "{cursor}");
    }

    #[test]
    fn a_text_that_no_listing_returned_is_no_cursor() {
        for bad in ["", "x", "e30", "bnVsbA", "%%%", "äöü"] {
            assert_eq!(decode(bad, "x", &key()).unwrap_err().pointer, "cursor", "{bad}");
        }
    }

    #[test]
    fn a_cursor_cannot_be_forged_without_the_key() {
        let forged = encode("bk-1", "x", &CursorKey::new("a guess"));
        assert_eq!(decode(&forged, "x", &key()).unwrap_err().pointer, "cursor");
        let json = serde_json::json!({ "after": "bk-1", "signature": "" });
        assert!(decode(&URL_SAFE_NO_PAD.encode(json.to_string()), "x", &key()).is_err());
    }
}
