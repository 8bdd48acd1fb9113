//! The `Idempotency-Key` header.

use milvault_jobs::{Error, IdempotencyKey};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::invalid;

/// The header's name.
pub(crate) const HEADER: &str = "Idempotency-Key";

/// Returns the caller's key with a hash of the request.
///
/// The hash is of the parsed request, not of its bytes: white space, the order of fields and an explicit default make
/// no difference.
pub(crate) fn key(header: Option<&str>, request: &impl Serialize) -> Result<Option<IdempotencyKey>, Error> {
    let Some(key) = header else { return Ok(None) };
    if !(1..=128).contains(&key.len()) || !key.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(invalid(HEADER, "an idempotency key is 1 to 128 printable ASCII characters"));
    }
    let mut request = serde_json::to_value(request).map_err(|cause| invalid("", cause.to_string()))?;
    if let Value::Object(fields) = &mut request {
        // A later release with more optional fields must compute the same hash.
        fields.retain(|_, field| !field.is_null());
    }
    let request_hash = hex::encode(Sha256::digest(request.to_string()));
    Ok(Some(IdempotencyKey { key: key.to_owned(), request_hash }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn different_requests_have_different_hashes_and_a_key_is_printable_ascii() {
        let hash = |request: &str| key(Some("k"), &request).unwrap().unwrap().request_hash;
        assert_eq!(hash("a"), hash("a"));
        assert_ne!(hash("a"), hash("b"));
        assert!(key(None, &"a").unwrap().is_none());
        let of_json = |request: Value| key(Some("k"), &request).unwrap().unwrap().request_hash;
        assert_eq!(of_json(json!({ "name": "a", "collections": null })), of_json(json!({ "name": "a" })));
        assert_ne!(of_json(json!({ "name": "a", "collections": [] })), of_json(json!({ "name": "a" })));
        for bad in ["", "ä", "a\nb", &"x".repeat(129)] {
            assert!(
                matches!(key(Some(bad), &"a"), Err(Error::Invalid(found)) if found[0].pointer == HEADER),
                "{bad:?}"
            );
        }
    }
}
