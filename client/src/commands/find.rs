//! The backup that somebody means by a name or an id.

use serde_json::Value;

use super::items;
use crate::{Error, api::Api, pages};

/// The backup of this id or name. Of several that had the name, the one that has it now; if none has, the newest.
///
/// # Errors
/// The API's own, such as that there is none.
pub(super) async fn backup(api: &Api, instance: &str, given: &str) -> Result<Value, Error> {
    let refused = if given.starts_with("bk-") {
        match by_id(api, instance, given).await {
            // A name may begin as ids do.
            Err(Error::Refused(refusal)) if refusal.code() == Some("BACKUP_NOT_FOUND") => Some(refusal),
            found => return found,
        }
    } else {
        None
    };
    match (listed(api, instance, given).await?, refused) {
        (Some(found), _) => Ok(found),
        (None, Some(refusal)) => Err(Error::Refused(refusal)),
        // In the API's words, it isn't there.
        (None, None) => by_id(api, instance, given).await,
    }
}

async fn by_id(api: &Api, instance: &str, id: &str) -> Result<Value, Error> {
    api.get(&["instances", instance, "backups", id], &[("limit", "1".to_owned())]).await
}

async fn listed(api: &Api, instance: &str, given: &str) -> Result<Option<Value>, Error> {
    let path = ["instances", instance, "backups"];
    let mut best: Option<Value> = None;
    let mut cursor: Option<String> = None;
    loop {
        let mut query = vec![("limit", "1000".to_owned())];
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let page = api.get(&path, &query).await?;
        best = best_of(best, items(&page, "items"), given);
        cursor = pages::next(&page);
        if cursor.is_none() || best.as_ref().is_some_and(has_its_name) {
            return Ok(best);
        }
    }
}

/// The first of that id or name which has its name now; if none has, what was there before or else the first.
fn best_of<'v>(before: Option<Value>, newest_first: impl Iterator<Item = &'v Value>, given: &str) -> Option<Value> {
    let is_it = |backup: &&Value| {
        ["backupId", "name"].iter().any(|field| backup.get(field).and_then(Value::as_str) == Some(given))
    };
    let mut called_so = newest_first.filter(is_it).peekable();
    let first = called_so.peek().copied();
    called_so.find(|backup| has_its_name(backup)).cloned().or(before).or_else(|| first.cloned())
}

/// Whether no other backup can take its name.
fn has_its_name(backup: &Value) -> bool {
    let status = backup.get("status").and_then(Value::as_str);
    matches!(status, Some("PENDING" | "RUNNING" | "AVAILABLE" | "DAMAGED"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn best(backups: &[(&str, &str, &str)]) -> Option<String> {
        let backups: Vec<_> = backups
            .iter()
            .map(|(id, name, status)| json!({ "backupId": id, "name": name, "status": status }))
            .collect();
        best_of(None, backups.iter(), "nightly")?["backupId"].as_str().map(str::to_owned)
    }

    #[test]
    fn of_several_backups_that_are_called_so_the_one_that_has_its_name_now_is_meant() {
        let backups = [
            ("4", "nightly", "FAILED"),
            ("3", "nightly", "DELETING"),
            ("2", "nightly", "AVAILABLE"),
            ("1", "x", "RUNNING"),
        ];
        assert_eq!(best(&backups).as_deref(), Some("2"));
        assert_eq!(best(&backups[..2]).as_deref(), Some("4"));
        assert_eq!(best(&backups[3..]), None);
        assert_eq!(best(&[("nightly", "x", "FAILED")]).as_deref(), Some("nightly"));
    }

    #[test]
    fn a_name_that_looks_like_a_time_is_compared_as_it_is() {
        let backup = json!({ "name": "2026-11-23T05:39:01.079Z", "status": "AVAILABLE" });
        assert!(best_of(None, [&backup].into_iter(), "2026-11-23T05:39:01.079Z").is_some());
        assert!(best_of(None, [&backup].into_iter(), "2026-11-23 05:39:01").is_none());
    }
}
