//! What an invocation asks another one for, or the scheduler: events whose sender doesn't wait for an answer, except for
//! a page that another invocation copies.

use milvault_model::{BackupId, InstanceId, JobRef, Time};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::CopyTask;

/// An event from another invocation, or from the scheduler: `{"resume": …}`, `{"copyPage": …}` and so on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BackgroundEvent {
    /// The next slice of a job.
    Resume(JobRef),
    /// A page of a backup's plan to copy.
    CopyPage(CopyTask),
    /// A backup to verify.
    Verify(Verify),
    /// The time of an automatic backup has come.
    Scheduled(Scheduled),
}

/// A backup to verify.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Verify {
    /// The instance's id.
    pub instance_id: InstanceId,
    /// The backup's id.
    pub backup_id: BackupId,
}

/// An automatic backup that is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scheduled {
    /// The instance's id.
    pub instance_id: InstanceId,
    /// The time that the run was scheduled for. `None` stands for [`SCHEDULED_TIME`], which the scheduler replaces; the
    /// local emulator leaves it in place.
    #[serde(default, serialize_with = "or_placeholder", deserialize_with = "unless_placeholder")]
    pub time: Option<Time>,
}

/// The placeholder that EventBridge Scheduler replaces by the time that an invocation was scheduled for (user guide,
/// "Adding context attributes").
pub const SCHEDULED_TIME: &str = "<aws.scheduler.scheduled-time>";

fn or_placeholder<S: Serializer>(time: &Option<Time>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.serialize_str(&time.to_rfc3339()),
        None => serializer.serialize_str(SCHEDULED_TIME),
    }
}

fn unless_placeholder<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Time>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == SCHEDULED_TIME {
        return Ok(None);
    }
    let time = chrono::DateTime::parse_from_rfc3339(&text).map_err(D::Error::custom)?;
    Ok(Some(time.to_utc()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_read_as_it_was_sent() {
        let (instance, backup) = ("orders".parse::<InstanceId>().unwrap(), "bk-01ARZ3NDEKTSV4RRFFQ69G5FAV");
        let backup_id: BackupId = backup.parse().unwrap();
        let at = chrono::DateTime::from_timestamp_millis(1_800_000_000_123).unwrap();
        let job = JobRef::Backup { instance_id: instance.clone(), backup_id: backup_id.clone() };
        let scheduled = |time| BackgroundEvent::Scheduled(Scheduled { instance_id: instance.clone(), time });
        for (event, sent) in [
            (BackgroundEvent::Resume(job.clone()), json!({ "resume": job })),
            (
                BackgroundEvent::Verify(Verify { instance_id: instance.clone(), backup_id }),
                json!({ "verify": { "instanceId": "orders", "backupId": backup } }),
            ),
            (
                scheduled(Some(at)),
                json!({ "scheduled": { "instanceId": "orders", "time": "2027-01-15T08:00:00.123+00:00" } }),
            ),
            (scheduled(None), json!({ "scheduled": { "instanceId": "orders", "time": SCHEDULED_TIME } })),
        ] {
            assert_eq!(json!(event), sent);
            assert_eq!(serde_json::from_value::<BackgroundEvent>(sent).unwrap(), event);
        }
        assert!(
            serde_json::from_value::<BackgroundEvent>(
                json!({ "scheduled": { "instanceId": "orders", "time": "soon" } })
            )
            .is_err()
        );
    }
}
