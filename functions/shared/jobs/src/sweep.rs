//! The sweep: what nobody else would do. Deletes what has expired, finishes what was interrupted, drives on what stands
//! still.

use milvault_model::{BackupId, DueKind, InstanceId, JobRef, RestoreId, retention};
use serde::Serialize;

use crate::{
    Error, Jobs, auto_backup, deletion, notices,
    ports::{Deadline, DueItem, PageRequest},
};

/// The most verifications that one sweep starts, each an invocation of its own; with a sweep every fifteen minutes, that
/// is enough for more than ten thousand backups a week.
const VERIFICATIONS: usize = 20;

/// Whether the sweep acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SweepMode {
    /// It does.
    Act,
    /// It only says what it would do.
    DryRun,
}

/// What a sweep did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SweepReport {
    /// Jobs that stood still, driven on.
    pub resumed: Vec<JobRef>,
    /// Backups past their expiry, with what was decided.
    pub expired: Vec<SweptBackup>,
    /// Interrupted deletions, finished if nothing kept them from it.
    pub deletions: Vec<SweptBackup>,
    /// Backups whose weekly verification began, or goes on.
    pub verifications: Vec<SweptBackup>,
    /// Restores whose previous collections or leftovers are due to be dropped.
    pub restores: Vec<SweptRestore>,
    /// Automatic backups whose schedule or run was seen to.
    pub automatic: Vec<SweptSchedule>,
    /// What went wrong; the next sweep tries again.
    pub errors: Vec<String>,
}

/// A backup that the sweep looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SweptBackup {
    /// Of which instance.
    pub instance_id: InstanceId,
    /// Which.
    pub backup_id: BackupId,
    /// What was decided, or how it stands now.
    pub outcome: String,
}

/// A restore that the sweep looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SweptRestore {
    /// Into which instance.
    pub instance_id: InstanceId,
    /// Which.
    pub restore_id: RestoreId,
}

/// Automatic backups that the sweep looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SweptSchedule {
    /// Of which instance.
    pub instance_id: InstanceId,
    /// What was, or would be, done.
    pub outcome: String,
}

/// Looks at everything that is due. One thing's failure doesn't keep the sweep from the others.
///
/// # Errors
/// When the catalog can't say what is due.
pub async fn sweep(jobs: &Jobs, mode: SweepMode, deadline: Deadline) -> Result<SweepReport, Error> {
    let mut report = SweepReport::default();
    for kind in DueKind::ALL {
        let now = jobs.ports.clock.now();
        let mut after = None;
        loop {
            let page = jobs.ports.catalog.due(kind, now, PageRequest { after, limit: 100 }).await?;
            for (_, item) in &page.items {
                if deadline.is_over(jobs.ports.clock.now()) {
                    return Ok(report);
                }
                if let Err(error) = look_at(jobs, mode, kind, item, deadline, &mut report).await {
                    tracing::error!(%error, ?item, "the sweep goes on without");
                    report.errors.push(format!("{item:?}: {error}"));
                }
            }
            after = page.items.last().map(|(key, _)| key.clone());
            if !page.more {
                break;
            }
        }
    }
    Ok(report)
}

async fn look_at(
    jobs: &Jobs,
    mode: SweepMode,
    kind: DueKind,
    item: &DueItem,
    deadline: Deadline,
    report: &mut SweepReport,
) -> Result<(), Error> {
    match item {
        DueItem::Job(instance) => {
            if let Some(job) = jobs.ports.catalog.job(instance).await? {
                if mode == SweepMode::Act {
                    resume(jobs, &job).await;
                }
                report.resumed.push(job);
            }
        }
        // Whichever of the two was due first, it must not hide the other.
        DueItem::Backup(instance, backup) if matches!(kind, DueKind::Expiry | DueKind::Verification) => {
            let record = crate::backup::find(jobs, instance, backup).await?;
            let decision = retention::decide(&record, jobs.ports.clock.now());
            if decision == retention::Decision::Delete && mode == SweepMode::Act {
                let deleted = deletion::delete(jobs, instance, backup, deadline).await?;
                report.expired.push(swept(instance, backup, format!("{:?}", deleted.state.status())));
            } else if decision == retention::Decision::Delete || kind == DueKind::Expiry {
                report.expired.push(swept(instance, backup, format!("{decision:?}")));
            } else if report.verifications.len() < VERIFICATIONS {
                if mode == SweepMode::Act {
                    jobs.ports.continuation.verify(instance, backup).await?;
                }
                report.verifications.push(swept(instance, backup, "Verify".to_owned()));
            }
        }
        DueItem::Backup(instance, backup) => {
            let record = match mode {
                SweepMode::Act => deletion::finish(jobs, instance, backup, deadline).await?,
                SweepMode::DryRun => crate::backup::find(jobs, instance, backup).await?,
            };
            report.deletions.push(swept(instance, backup, format!("{:?}", record.state.status())));
        }
        DueItem::AutoBackup(instance) => {
            report.automatic.extend(see_to(jobs, mode, instance).await?);
        }
        DueItem::Notice(instance, _) => {
            if mode == SweepMode::Act {
                notices::publish(jobs, instance).await?;
            }
        }
        DueItem::Restore(instance, restore) => {
            if mode == SweepMode::Act {
                // Only the restore's own function reaches Milvus.
                let job = JobRef::Restore { instance_id: instance.clone(), restore_id: restore.clone() };
                resume(jobs, &job).await;
            }
            report.restores.push(SweptRestore { instance_id: instance.clone(), restore_id: restore.clone() });
        }
    }
    Ok(())
}

/// Tells the scheduler what it may not know, and has a run begun that didn't come or that waits.
async fn see_to(jobs: &Jobs, mode: SweepMode, instance: &InstanceId) -> Result<Vec<SweptSchedule>, Error> {
    let mut seen_to = Vec::new();
    let now = jobs.ports.clock.now();
    let record = auto_backup::find(jobs, instance).await?;
    let mut done = |outcome: String| seen_to.push(SweptSchedule { instance_id: instance.clone(), outcome });
    if record.is_unsettled(now) {
        if mode == SweepMode::Act {
            auto_backup::settle(jobs, instance).await?;
            tracing::warn!(%instance, switch = ?record.switch, "the schedule was made what the catalog says");
        }
        done("Reconcile".to_owned());
    }
    if let Some(pending) = record.pending(now) {
        if mode == SweepMode::Act {
            auto_backup::begin_elsewhere(jobs, instance, pending).await;
        }
        done(format!("Begin {}", pending.to_rfc3339()));
    }
    Ok(seen_to)
}

fn swept(instance: &InstanceId, backup: &BackupId, outcome: String) -> SweptBackup {
    SweptBackup { instance_id: instance.clone(), backup_id: backup.clone(), outcome }
}

async fn resume(jobs: &Jobs, job: &JobRef) {
    if let Err(error) = jobs.ports.continuation.resume(job).await {
        tracing::error!(%error, ?job, "the next sweep tries again");
    }
}
