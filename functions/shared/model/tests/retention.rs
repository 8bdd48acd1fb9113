//! Tests of retention: exactly the expired backups are deleted, except those that `keepAtLeast` keeps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta};
use milvault_model::{
    Backup, BackupId, BackupKind, BackupState, CaptureMethod, DueKind, Failure, FailureCode, KeepAtLeast, Snapshot,
    Time, Totals,
    retention::{self, Decision, Standing},
};
use proptest::prelude::*;

fn at(minutes: i64) -> Time {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::minutes(minutes)
}

#[derive(Debug, Clone)]
struct Made {
    kind: BackupKind,
    state: u8,
    /// The expiry in minutes from now; `None` if the backup never expires.
    expires: Option<i64>,
    is_pinned: bool,
    /// The end of the lock in minutes from now; `None` in a bucket without Object Lock.
    free: Option<i64>,
    /// Whether a caller asked to delete the backup. Only a backup that was locked then records it.
    is_unwanted: bool,
}

fn made() -> impl Strategy<Value = Made> {
    let kind = prop_oneof![Just(BackupKind::Manual), Just(BackupKind::Auto)];
    let expires = prop::option::weighted(0.8, -3_i64..3);
    let locked = (prop::option::weighted(0.3, -3_i64..3), prop::bool::weighted(0.3));
    (kind, 0_u8..8, expires, prop::bool::weighted(0.1), locked).prop_map(
        |(kind, state, expires, is_pinned, (free, is_unwanted))| Made {
            kind,
            // Most of them are AVAILABLE.
            state: state.saturating_sub(3),
            expires,
            is_pinned,
            free,
            is_unwanted: free.is_some() && is_unwanted,
        },
    )
}

/// The `number`th backup of an instance; later ones are newer.
fn backup(number: usize, made: &Made) -> Backup {
    let totals = Totals {
        size_bytes: 1,
        added_bytes: 1,
        found_bytes: 0,
        objects: 1,
        collections: 1,
        entities: 1,
        counted_exactly: 1,
    };
    let snapshot = Snapshot {
        started_at: at(0),
        completed_at: at(0),
        point_in_time: at(0),
        totals,
        completeness: Default::default(),
        captured_as: None,
    };
    let failure = Failure::new(FailureCode::SnapshotDamaged, "gone");
    Backup {
        id: format!("bk-{:026}", number).parse::<BackupId>().unwrap(),
        instance_id: "orders".parse().unwrap(),
        name: "nightly".parse().unwrap(),
        kind: made.kind,
        method: CaptureMethod::Binlog,
        region: "eu-west-1".parse().unwrap(),
        engine_version: "2.6.0".to_owned(),
        selection: Vec::new(),
        created_at: at(0),
        expires_at: made.expires.map(at),
        kept_until: None,
        all_locked_until: None,
        locked_until: made.free.map(at),
        deletion_requested_at: made.is_unwanted.then(|| at(-10)),
        cancel_requested_at: None,
        pins: made.is_pinned.then(|| "rs-01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap()).into_iter().collect(),
        verification: None,
        state: match made.state {
            0 => BackupState::Available(snapshot),
            1 => BackupState::Damaged { snapshot, failure },
            2 => BackupState::Pending,
            3 => BackupState::Failed { started_at: None, ended_at: at(0), failure },
            _ => BackupState::Deleted { snapshot, deleted_at: at(0) },
        },
    }
}

fn decide(backups: &[Backup], of: &Backup, keep_at_least: KeepAtLeast) -> Decision {
    let newer = backups.iter().filter(|other| other.id > of.id && retention::counts(other)).count();
    retention::decide(of, Standing { keep_at_least, newer }, at(0))
}

proptest! {
    #[test]
    fn what_is_expired_goes_and_nothing_else_but_for_the_newest_automatic_ones(
        made in prop::collection::vec(made(), 0..30), keep in 0_u32..6,
    ) {
        let backups: Vec<Backup> = made.iter().enumerate().map(|(number, made)| backup(number, made)).collect();
        let keep_at_least: KeepAtLeast = keep.try_into().unwrap();
        // Determined in another way: the last ones of a list.
        let newest: BTreeSet<&BackupId> = backups
            .iter()
            .rev()
            .filter(|backup| backup.kind == BackupKind::Auto && matches!(backup.state, BackupState::Available(_)))
            .filter(|backup| backup.deletion_requested_at.is_none())
            .take(keep as usize)
            .map(|backup| &backup.id)
            .collect();
        for backup in &backups {
            let decision = decide(&backups, backup, keep_at_least);
            prop_assert!(!decision.to_string().is_empty());
            let is_deleted = matches!(decision, Decision::Delete(_));
            let is_expired = backup.expires_at.is_some_and(|expiry| expiry <= at(0));
            let is_to_go = backup.is_living() && (is_expired || backup.deletion_requested_at.is_some());
            let stays = newest.contains(&backup.id) || !backup.pins.is_empty();
            let is_locked = backup.locked_until.is_some_and(|locked_until| locked_until > at(0));
            prop_assert_eq!(is_deleted, is_to_go && !stays && !is_locked, "{:?}: {:?}", backup, decision);
            prop_assert_eq!(decision.is_going(), is_to_go && !newest.contains(&backup.id), "{:?}: {:?}", backup, decision);
            if backup.expires_at.is_none() && backup.deletion_requested_at.is_none() {
                prop_assert!(!is_deleted);
            }
        }
    }

    #[test]
    fn with_nothing_to_keep_manual_and_automatic_backups_expire_alike(made in made()) {
        let other_kind = match made.kind {
            BackupKind::Manual => BackupKind::Auto,
            BackupKind::Auto => BackupKind::Manual,
        };
        let other = Made { kind: other_kind, ..made.clone() };
        let [one, other] = [backup(1, &made), backup(1, &other)];
        prop_assert_eq!(decide(&[], &one, KeepAtLeast::NONE), decide(&[], &other, KeepAtLeast::NONE));
    }

    #[test]
    fn what_is_kept_or_locked_past_its_expiry_is_due_only_when_that_is_over(
        expires in -3_i64..3, kept in 0_i64..100, free in prop::option::of(0_i64..100), is_unwanted: bool,
    ) {
        let made =
            Made { kind: BackupKind::Auto, state: 0, expires: Some(expires), is_pinned: false, free, is_unwanted };
        let kept_on = Backup { kept_until: Some(at(kept)), ..backup(1, &made) };
        let due = kept_on.due().unwrap();
        let wanted = if is_unwanted { -10 } else { kept.max(expires) };
        prop_assert_eq!((due.kind, due.at), (DueKind::Expiry, at(free.map_or(wanted, |free| free.max(wanted)))));
    }
}
