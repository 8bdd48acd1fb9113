//! The combination of the pages of a listing or a description into one answer.

use serde_json::Value;

/// The lists that come in pages: of a listing, of a restore's collections, and of a backup's databases.
const LISTS: [&str; 3] = ["items", "collections", "databases"];

/// Returns the cursor of the next page.
pub(crate) fn next(page: &Value) -> Option<String> {
    page.get("nextCursor").and_then(Value::as_str).map(str::to_owned)
}

/// Appends the lists of the next page and takes over its cursor. All other fields stay as on the first page.
pub(crate) fn append(whole: &mut Value, mut page: Value) {
    for list in LISTS {
        let Some(Value::Array(more)) = page.get_mut(list).map(Value::take) else { continue };
        let Some(Value::Array(present)) = whole.get_mut(list) else { continue };
        for element in more {
            // A database is on each page that has some of its collections.
            let same = |known: &&mut Value| list == "databases" && known.get("name") == element.get("name");
            match present.iter_mut().find(same) {
                Some(known) => append(known, element),
                None => present.push(element),
            }
        }
    }
    if let (Some(cursor), Some(next)) = (whole.get_mut("nextCursor"), page.get_mut("nextCursor")) {
        *cursor = next.take();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_listings_pages_are_combined_with_the_other_fields_of_the_first() {
        let mut whole = json!({ "items": [1, 2], "nextCursor": "a", "completeUntil": { "eu-west-1": "then" } });
        assert_eq!(next(&whole).as_deref(), Some("a"));
        append(&mut whole, json!({ "items": [3], "nextCursor": null, "completeUntil": {} }));
        let expected = json!({ "items": [1, 2, 3], "nextCursor": null, "completeUntil": { "eu-west-1": "then" } });
        assert_eq!(whole, expected);
        assert_eq!(next(&whole), None);
    }

    #[test]
    fn a_database_whose_collections_are_on_two_pages_is_listed_once() {
        let page = |database: &str, collection: &str| json!({ "databases": [{ "name": database, "collections": [{ "name": collection }] }], "nextCursor": null });
        let mut whole = page("default", "a");
        append(&mut whole, page("default", "b"));
        append(&mut whole, page("other", "c"));
        let collections = |names: &[&str]| names.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>();
        assert_eq!(
            whole["databases"],
            json!([
                { "name": "default", "collections": collections(&["a", "b"]) },
                { "name": "other", "collections": collections(&["c"]) }
            ])
        );
    }
}
