//! The lookup of a backup by its name or id.

use milvault_model::BackupStatus;
use milvault_wire::{BackupView, Code, Open, PageView};

use crate::{Error, api::Api};

/// Finds the backup with this id or name. Of several backups with the name, it is the one that holds the name now, or
/// else the newest.
///
/// # Errors
/// The API's errors, such as that the backup doesn't exist.
pub(super) async fn backup(api: &Api, instance: &str, given: &str) -> Result<BackupView, Error> {
    let refused = if given.starts_with("bk-") {
        match by_id(api, instance, given).await {
            // A name may begin like an id.
            Err(Error::Refused(refusal)) if refusal.is(Code::BackupNotFound) => Some(refusal),
            found => return found,
        }
    } else {
        None
    };
    match (listed(api, instance, given).await?, refused) {
        (Some(found), _) => Ok(found),
        (None, Some(refusal)) => Err(Error::Refused(refusal)),
        // The API's own error says that the backup doesn't exist.
        (None, None) => by_id(api, instance, given).await,
    }
}

async fn by_id(api: &Api, instance: &str, id: &str) -> Result<BackupView, Error> {
    Ok(api.get(&["instances", instance, "backups", id], &[("limit", "1".to_owned())]).await?.object)
}

async fn listed(api: &Api, instance: &str, given: &str) -> Result<Option<BackupView>, Error> {
    let path = ["instances", instance, "backups"];
    let mut best: Option<BackupView> = None;
    let mut cursor: Option<String> = None;
    loop {
        let mut query = vec![("limit", "1000".to_owned())];
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let page: PageView<BackupView> = api.get(&path, &query).await?.object;
        best = best_of(best, page.items, given);
        cursor = page.next_cursor;
        if cursor.is_none() || best.as_ref().is_some_and(holds_name) {
            return Ok(best);
        }
    }
}

/// Returns the first match that holds its name now, or else `before`, or else the first match.
fn best_of(before: Option<BackupView>, newest_first: Vec<BackupView>, given: &str) -> Option<BackupView> {
    let is_match = |backup: &BackupView| backup.backup_id == given || backup.name == given;
    let mut matches: Vec<BackupView> = newest_first.into_iter().filter(is_match).collect();
    match matches.iter().position(holds_name) {
        Some(place) => Some(matches.swap_remove(place)),
        None => before.or_else(|| matches.into_iter().next()),
    }
}

/// Whether the backup holds its name, so that no other backup can take it.
fn holds_name(backup: &BackupView) -> bool {
    use BackupStatus::{Available, Damaged, Pending, Running};
    matches!(backup.status, Open::Known(Pending | Running | Available | Damaged))
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn backups(backups: &[(&str, &str, &str)]) -> Vec<BackupView> {
        let backup = |(id, name, status): &(&str, &str, &str)| {
            from_value(json!({ "backupId": id, "name": name, "status": status })).unwrap()
        };
        backups.iter().map(backup).collect()
    }

    #[test]
    fn of_several_backups_with_a_name_the_one_that_holds_it_now_is_found() {
        let found = [
            ("4", "nightly", "FAILED"),
            ("3", "nightly", "DELETING"),
            ("2", "nightly", "AVAILABLE"),
            ("1", "x", "RUNNING"),
        ];
        let best = |found: &[_]| best_of(None, backups(found), "nightly").map(|best| best.backup_id);
        assert_eq!(best(&found).as_deref(), Some("2"));
        assert_eq!(best(&found[..2]).as_deref(), Some("4"));
        assert_eq!(best(&found[3..]), None);
        assert_eq!(best(&[("nightly", "x", "FAILED")]).as_deref(), Some("nightly"));
        let before = backups(&[("5", "nightly", "FAILED")]).pop();
        assert_eq!(best_of(before, backups(&found[..2]), "nightly").unwrap().backup_id, "5");
    }

    #[test]
    fn a_name_that_looks_like_a_time_is_compared_as_text() {
        let found = [("1", "2026-11-23T05:39:01.079Z", "AVAILABLE")];
        assert!(best_of(None, backups(&found), "2026-11-23T05:39:01.079Z").is_some());
        assert!(best_of(None, backups(&found), "2026-11-23 05:39:01").is_none());
    }
}
