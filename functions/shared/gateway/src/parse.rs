//! Parsing of callers' objects, with a JSON pointer to an invalid field.

use milvault_jobs::{Error, FieldError};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serde_path_to_error::{Path, Segment};

/// Makes the error for a request with one invalid field.
pub fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Error {
    Error::Invalid(vec![FieldError::new(pointer, detail)])
}

/// Reads an object's fields.
///
/// # Errors
/// [`Error::Invalid`] with a pointer to the first invalid field, including an unknown field if the type refuses them.
pub fn object<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, Error> {
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| {
        let mut pointer = pointer(error.path());
        let detail = error.inner().to_string();
        // Serde reports a missing field at the object that lacks it.
        if let Some(field) = detail.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
            pointer = format!("{pointer}/{}", escape(field));
        }
        invalid(pointer, detail)
    })
}

fn pointer(path: &Path) -> String {
    path.iter()
        .map(|segment| match segment {
            Segment::Seq { index } => format!("/{index}"),
            Segment::Map { key } => format!("/{}", escape(key)),
            Segment::Enum { .. } | Segment::Unknown => String::new(),
        })
        .collect()
}

/// Escapes a key as RFC 6901 requires.
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use milvault_model::{BackupName, CollectionName, CollectionPattern};
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Request {
        #[serde(rename = "name")]
        _name: BackupName,
        #[serde(default, rename = "collections")]
        _collections: Vec<CollectionPattern>,
        #[serde(default, rename = "rename")]
        _rename: BTreeMap<CollectionName, CollectionName>,
    }

    fn found(value: Value) -> (String, String) {
        let Value::Object(fields) = value else { panic!("an object") };
        match object::<Request>(fields) {
            Err(Error::Invalid(mut found)) => {
                let found = found.remove(0);
                (found.pointer, found.detail)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_pointer_names_the_invalid_missing_or_unknown_field() {
        assert_eq!(found(json!({})).0, "/name");
        assert_eq!(found(json!({ "name": 5 })).0, "/name");
        assert_eq!(found(json!({ "name": "a", "colections": [] })).0, "/colections");
        assert_eq!(found(json!({ "name": "a", "b/c~": 1 })).0, "/b~1c~0");
        assert_eq!(found(json!({ "name": "a", "collections": ["default.*", "items"] })).0, "/collections/1");
        assert_eq!(found(json!({ "name": "a", "rename": { "default.a": "b" } })).0, "/rename/default.a");
    }

    #[test]
    fn a_detail_is_the_sentence_of_the_model() {
        assert_eq!(found(json!({ "name": "" })).1, "a backup name has 1 to 128 characters");
    }
}
