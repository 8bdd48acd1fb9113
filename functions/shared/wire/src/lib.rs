//! The objects of the HTTP API: answers, which functions write and clients read, and requests, which clients write and
//! functions read.
//!
//! Pure functions (`new`) make the objects from records. A client may be older or newer than the API that it calls, so
//! answers are read tolerantly:
//!
//! - An unknown field is ignored.
//! - An absent field is read as null, an empty text or list, or zero. Only the fields that identify the object and give its
//!   status are required.
//! - A text of a closed set is an [`Open`], which keeps unknown values.
//! - Ids, names, regions and currencies are plain text. They are opaque to clients: a client that validated them would fail
//!   on a new form.
//!
//! Requests are read strictly: see [`Texts`].
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod auto_backup;
mod backup;
mod instance;
mod job;
mod open;
mod page;
mod preflight;
mod problem;
mod restore;
mod texts;
mod timestamp;
mod usage;

pub use auto_backup::{AutoBackupRequest, AutoBackupView, AutoRunStatus, AutoRunView};
pub use backup::{
    BackupDescription, BackupRequest, BackupView, CollectionView, CompletenessView, DatabaseView, DeletedBackupView,
    LeftOutCauseView, LeftOutView, PrincipalView, VerificationStatus, VerificationView, VerifiedBackupView, databases,
};
pub use instance::{
    AuthView, CheckedInstanceView, InstanceDescription, InstanceView, Registration, StorageRequest, StorageView,
};
pub use job::{FailureView, ImportProgressView, ProgressView};
pub use open::Open;
pub use page::PageView;
pub use preflight::{CheckName, CheckStatus, CheckView, PreflightView};
pub use problem::{Code, FieldProblem, Problem};
pub use restore::{CollectionRestoreView, RestoreDescription, RestoreRequest, RestoreView};
pub use texts::{AsGiven, Checked, Text, Texts};
pub use timestamp::Timestamp;
pub use usage::{CorrectionView, UsageFile, UsageLineView, UsageView};

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use serde::{Serialize, de::DeserializeOwned};
    use serde_json::{Value, from_value, json, to_value};

    use super::*;

    /// Returns an object as JSON, and checks that reading it returns the same object.
    pub(crate) fn written<T: Serialize + DeserializeOwned + PartialEq + Debug>(object: &T) -> Value {
        let written = to_value(object).unwrap();
        assert_eq!(&from_value::<T>(written.clone()).unwrap(), object);
        written
    }

    #[test]
    fn answers_of_earlier_and_later_releases_are_read() {
        let older: BackupView = from_value(json!({ "backupId": "bk-1", "status": "AVAILABLE" })).unwrap();
        assert_eq!((older.completeness.complete, older.name.as_str(), older.created_at.as_str()), (None, "", ""));
        let newer = json!({
            "backupId": "backup:1", "status": "ARCHIVED", "type": "MIRROR", "tier": { "name": "cold" },
            "failure": { "code": "TIER_UNREACHABLE", "message": "gone", "retry": true }, "databases": null
        });
        let newer: BackupView = from_value(newer).unwrap();
        assert_eq!((newer.status.to_string(), newer.kind.to_string()), ("ARCHIVED".to_owned(), "MIRROR".to_owned()));
        assert_eq!(newer.failure.unwrap().code.to_string(), "TIER_UNREACHABLE");
    }

    #[test]
    fn an_object_without_its_id_or_status_is_refused() {
        assert!(from_value::<BackupView>(json!({ "backupId": "bk-1" })).is_err());
        assert!(from_value::<RestoreView>(json!({ "status": "PENDING" })).is_err());
        assert!(from_value::<PageView<InstanceView>>(json!({ "nextCursor": null })).is_err());
    }

    #[test]
    fn a_request_is_validated_when_it_is_read_and_not_when_it_is_written() {
        let given = BackupRequest::<AsGiven> { name: " ".to_owned(), collections: None, expires_in_days: None };
        assert_eq!(written(&given), json!({ "name": " " }));
        assert!(from_value::<BackupRequest>(written(&given)).is_err());
        assert!(from_value::<BackupRequest>(json!({ "name": "a", "colections": [] })).is_err());
    }

    #[test]
    fn a_root_path_may_be_omitted_but_not_null() {
        let read = |storage: Value| from_value::<StorageRequest>(storage).map(|storage| storage.root_path);
        assert_eq!(read(json!({ "bucket": "b" })).unwrap(), None);
        assert_eq!(read(json!({ "bucket": "b", "rootPath": "/files/" })).unwrap().unwrap().as_str(), "files");
        assert!(read(json!({ "bucket": "b", "rootPath": null })).is_err());
    }
}
