//! The backup that somebody means by a name or an id.

use milvault_model::BackupStatus;
use milvault_wire::{BackupView, Code, Open, PageView};

use crate::{Error, api::Api};

/// The backup of this id or name. Of several that had the name, the one that has it now; if none has, the newest.
///
/// # Errors
/// The API's own, such as that there is none.
pub(super) async fn backup(api: &Api, instance: &str, given: &str) -> Result<BackupView, Error> {
    let refused = if given.starts_with("bk-") {
        match by_id(api, instance, given).await {
            // A name may begin as ids do.
            Err(Error::Refused(refusal)) if refusal.is(Code::BackupNotFound) => Some(refusal),
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
        if cursor.is_none() || best.as_ref().is_some_and(has_its_name) {
            return Ok(best);
        }
    }
}

/// The first of that id or name which has its name now; if none has, what was there before or else the first.
fn best_of(before: Option<BackupView>, newest_first: Vec<BackupView>, given: &str) -> Option<BackupView> {
    let is_it = |backup: &BackupView| backup.backup_id == given || backup.name == given;
    let mut called_so: Vec<BackupView> = newest_first.into_iter().filter(is_it).collect();
    match called_so.iter().position(has_its_name) {
        Some(place) => Some(called_so.swap_remove(place)),
        None => before.or_else(|| called_so.into_iter().next()),
    }
}

/// Whether no other backup can take its name.
fn has_its_name(backup: &BackupView) -> bool {
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
    fn of_several_backups_that_are_called_so_the_one_that_has_its_name_now_is_meant() {
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
    fn a_name_that_looks_like_a_time_is_compared_as_it_is() {
        let found = [("1", "2026-11-23T05:39:01.079Z", "AVAILABLE")];
        assert!(best_of(None, backups(&found), "2026-11-23T05:39:01.079Z").is_some());
        assert!(best_of(None, backups(&found), "2026-11-23 05:39:01").is_none());
    }
}
