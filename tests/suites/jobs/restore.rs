//! Restores on every line of Milvus, from a backup to COMPLETED and rolled back, through the real adapter.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use chrono::{TimeDelta, Utc};
use futures::future::join_all;
use milvault_fake_milvus::{Change, DeleteFrom, FakeMilvus, ImportPace, Line, Loading};
use milvault_harness::{drive, minutes_left, register};
use milvault_jobs::{Error, Jobs, deletion, restore};
use milvault_model::{Backup, BackupState, FailureCode, Instance, Restore, RestoreState};
use milvault_ports::{Deadline, ImportTasks, Objects};
use milvault_tests::world::{World, back_up, leave_a_gap, name, request, restore};
use tracing_subscriber::fmt::MakeWriter;

fn completed(line: Line, restore: &Restore) {
    assert!(matches!(restore.state, RestoreState::Completed { .. }), "{line:?}: {:?}", restore.state);
}

/// Creates two collections with rows, and with deletes of a partition and of all partitions.
async fn fill(fake: &FakeMilvus) {
    fake.add_collection("items", &["new"], Loading::Loaded).await;
    fake.insert("items", "_default", 100).await;
    fake.insert("items", "new", 20).await;
    fake.seal("items").await;
    fake.insert("items", "_default", 30).await;
    fake.delete("items", DeleteFrom::Partition("new"), 5).await;
    fake.delete("items", DeleteFrom::All, 60).await;
    fake.seal("items").await;
    fake.insert("items", "new", 7).await;
    fake.add_collection("cold", &[], Loading::Released).await;
    fake.insert("cold", "_default", 9).await;
    fake.delete("cold", DeleteFrom::All, 2).await;
    fake.point_alias("current", "items").await;
}

/// Changes rows, aliases and roles after a backup.
async fn change_after_backup(fake: &FakeMilvus) {
    fake.insert("items", "_default", 11).await;
    fake.delete("items", DeleteFrom::All, 40).await;
    fake.insert("cold", "_default", 1).await;
    fake.point_alias("current", "cold").await;
    fake.set_roles(&["theirs"]).await;
}

#[tokio::test]
async fn a_restore_of_every_line_brings_back_exactly_the_rows_and_a_rollback_undoes_it() {
    // The lines run in parallel, because each waits for its server.
    let lines = Line::ALL.map(async |line| {
        let world = World::of(line).await;
        let fake = &world.fake;
        fill(fake).await;
        fake.set_roles(&["ours"]).await;
        fake.set(|faults| faults.not_ready = 2).await;
        let jobs = world.jobs().await;
        let then = [fake.rows("items").await.unwrap(), fake.rows("cold").await.unwrap()];
        let backup = back_up(&jobs, &world).await;
        assert!(matches!(backup.state, BackupState::Available(_)), "{line:?}: {:?}", backup.state);
        change_after_backup(fake).await;
        let before = [fake.rows("items").await.unwrap(), fake.rows("cold").await.unwrap()];
        assert_ne!(before, then);

        let restored = restore(&jobs, &backup, &world.instance).await;
        completed(line, &restored);
        assert_eq!([fake.rows("items").await.unwrap(), fake.rows("cold").await.unwrap()], then, "{line:?}");
        assert_eq!(fake.alias("current").await.as_deref(), Some("items"), "{line:?}");
        let collections = fake.collections().await;
        assert_eq!((collections["items"], collections["cold"]), (Loading::Loaded, Loading::Released), "{line:?}");
        assert_eq!(collections.len(), 4, "{line:?}: two, and their previous collections: {collections:?}");
        let roles = fake.roles().await;
        let back = if line == Line::V2_3 { vec!["theirs"] } else { vec!["theirs", "ours"] };
        assert_eq!(roles, back, "{line:?}: {:?}", restored.warnings);
        let staged = world.objects.list(&world.data, "milvault-staging/", None).await.unwrap();
        assert!(staged.items.is_empty(), "{line:?}: {:?}", staged.items);

        // A rollback doesn't need the backup.
        let deadline = minutes_left(&jobs, 5);
        let deleted = deletion::delete(&jobs, &world.instance.id, &backup.id, deadline).await.unwrap();
        assert!(matches!(deleted.state, BackupState::Deleted { .. }), "{line:?}: {:?}", deleted.state);
        // A user points an alias at a collection that the rollback drops: from 2.4 on, the alias would prevent that.
        fake.point_alias("latest", "items").await;
        restore::rollback(&jobs, &world.instance.id, &restored.id, None).await.unwrap();
        let back = drive(&jobs, &world.instance.id, &restored.id).await;
        assert!(matches!(back.state, RestoreState::RolledBack { .. }), "{line:?}: {:?}", back.state);
        assert_eq!([fake.rows("items").await.unwrap(), fake.rows("cold").await.unwrap()], before, "{line:?}");
        assert_eq!(fake.alias("current").await.as_deref(), Some("cold"), "{line:?}");
        let latest = fake.alias("latest").await;
        assert_eq!(latest.as_deref(), if line == Line::V2_3 { latest.as_deref() } else { Some("items") }, "{line:?}");
        assert_eq!(fake.collections().await.len(), 2, "{line:?}");
    });
    join_all(lines).await;
}

#[tokio::test]
async fn an_alias_that_a_cached_description_lacks_is_moved_too() {
    // The lines run in parallel, because each waits for its server.
    let lines = Line::ALL.map(async |line| {
        let world = World::of(line).await;
        fill(&world.fake).await;
        let jobs = world.jobs().await;
        let milvus = world.milvus().await;
        // The collection is described, and the description cached, before it has the alias.
        milvus.describe(&name("items")).await.unwrap();
        world.fake.point_alias("in_the_backup", "items").await;
        let backup = back_up(&jobs, &world).await;
        world.fake.point_alias("production", "items").await;
        world.fake.point_alias("in_the_backup", "cold").await;
        // The live collection gets this alias after the restore has read everything about it.
        let late = Change::Alias("late".to_owned(), "items".to_owned());
        world.fake.set(|faults| faults.before_rename = Some(("items".to_owned(), late))).await;
        assert_eq!(milvus.alias_target("default", "production").await.unwrap().as_deref(), Some("items"), "{line:?}");
        assert_eq!(milvus.collection_id(&name("production")).await.unwrap(), None, "{line:?}");

        let restored = restore(&jobs, &backup, &world.instance).await;
        completed(line, &restored);
        for alias in ["current", "production", "in_the_backup", "late"] {
            assert_eq!(world.fake.alias(alias).await.as_deref(), Some("items"), "{line:?}: {alias}");
        }
    });
    join_all(lines).await;
}

#[tokio::test]
async fn aliases_are_read_from_descriptions_where_the_alias_calls_are_missing() {
    let world = World::of(Line::V2_3).await;
    let fake = &world.fake;
    fill(fake).await;
    fake.set(|faults| faults.no_alias_calls = true).await;
    let jobs = world.jobs().await;
    let backup = back_up(&jobs, &world).await;
    fake.point_alias("production", "items").await;
    fake.point_alias("current", "cold").await;
    completed(Line::V2_3, &restore(&jobs, &backup, &world.instance).await);
    for alias in ["current", "production"] {
        assert_eq!(fake.alias(alias).await.as_deref(), Some("items"), "{alias}");
    }
}

#[tokio::test]
async fn an_alias_of_a_dropped_collection_does_not_hide_a_restored_one() {
    let world = World::of(Line::V2_3).await;
    let fake = &world.fake;
    fill(fake).await;
    let then = [fake.rows("items").await.unwrap(), fake.rows("cold").await.unwrap()];
    let jobs = world.jobs().await;
    let backup = back_up(&jobs, &world).await;
    // One name has no collection. The other one has a collection that can't be found.
    for gone in ["items", "cold"] {
        fake.change(&Change::Drop(gone.to_owned())).await;
        fake.add_collection("old", &[], Loading::Released).await;
        fake.point_alias(gone, "old").await;
        fake.change(&Change::Drop("old".to_owned())).await;
    }
    fake.add_collection("cold", &[], Loading::Released).await;
    assert!(world.milvus().await.collection_id(&name("cold")).await.is_err());

    let restored = restore(&jobs, &backup, &world.instance).await;
    completed(Line::V2_3, &restored);
    let milvus = world.milvus().await;
    for (collection, then) in ["items", "cold"].into_iter().zip(then) {
        assert!(milvus.collection_id(&name(collection)).await.unwrap().is_some(), "{collection}");
        assert_eq!(fake.rows(collection).await.unwrap(), then, "{collection}");
        let expected = format!("default.{collection} could not be found: an alias of that name");
        assert!(restored.warnings.iter().any(|warning| warning.contains(&expected)), "{:?}", restored.warnings);
    }
}

#[tokio::test]
async fn added_fields_keep_their_ids_in_a_restore() {
    let world = World::of(Line::V2_6).await;
    let (fake, milvus) = (&world.fake, world.milvus().await);
    fill(fake).await;
    fake.make_dynamic("items").await;
    fake.add_field("items", "added").await;
    fake.add_field("items", "another").await;
    let ids = async || {
        let fields = milvus.describe(&name("items")).await.unwrap().fields;
        fields.into_iter().map(|field| (field.name, field.id)).collect::<BTreeMap<_, _>>()
    };
    let before = ids().await;
    assert_eq!((before["$meta"], before["added"], before["another"]), (102, 103, 104));
    let jobs = world.jobs().await;
    let backup = back_up(&jobs, &world).await;
    fake.change(&Change::Drop("items".to_owned())).await;
    completed(Line::V2_6, &restore(&jobs, &backup, &world.instance).await);
    assert_eq!(ids().await, before);
}

#[tokio::test]
async fn a_collection_whose_field_ids_cannot_be_recreated_is_not_restored() {
    let world = World::of(Line::V2_6).await;
    let fake = &world.fake;
    fill(fake).await;
    leave_a_gap(fake, "items").await;
    let jobs = world.jobs().await;
    let backup = back_up(&jobs, &world).await;
    let live = fake.rows("items").await.unwrap();
    let restored = restore(&jobs, &backup, &world.instance).await;
    let RestoreState::Failed { failure, .. } = &restored.state else { panic!("{:?}", restored.state) };
    assert!(
        failure.message.contains("kept has ID 103 in the backup and 102 in the new collection"),
        "{}",
        failure.message
    );
    assert_eq!(fake.rows("items").await.unwrap(), live);
    assert_eq!(fake.collections().await.len(), 2);
}

#[tokio::test]
async fn deletes_after_the_point_in_time_are_not_restored_on_any_line() {
    // The lines run in parallel, because each waits for its server.
    let lines = Line::ALL.map(async |line| {
        let world = World::of(line).await;
        fill(&world.fake).await;
        let jobs = world.jobs().await;
        // The server deletes rows between the flush and the listing of segments, so that these logs are captured too.
        world.fake.set(|faults| faults.delete_before_listing = u32::MAX).await;
        let backup = back_up(&jobs, &world).await;
        assert!(matches!(backup.state, BackupState::Available(_)), "{line:?}: {:?}", backup.state);
        world.fake.set(|faults| faults.delete_before_listing = 0).await;
        let then = world.fake.rows_at_flush("cold").await;
        assert_ne!(world.fake.rows("cold").await.unwrap(), then, "{line:?}");
        let restored = restore(&jobs, &backup, &world.instance).await;
        completed(line, &restored);
        assert_eq!(world.fake.rows("cold").await.unwrap(), then, "{line:?}");
    });
    join_all(lines).await;
}

#[tokio::test]
async fn an_import_without_rows_is_accepted_only_where_the_backup_deletes_all_rows() {
    const PARTITIONS: usize = 70;
    // The lines run in parallel, because each waits for its server.
    let lines = Line::ALL.map(async |line| {
        let world = World::of(line).await;
        let fake = &world.fake;
        let partitions: Vec<String> = (0..PARTITIONS).map(|number| format!("p{number}")).collect();
        let names: Vec<&str> = partitions.iter().map(String::as_str).collect();
        // The rows of this collection aren't counted, so that the expected number is unknown.
        fake.add_collection("cold", &names, Loading::Released).await;
        for partition in &names {
            fake.insert("cold", partition, 5).await;
        }
        fake.seal("cold").await;
        fake.delete("cold", DeleteFrom::Partition("p7"), 5).await;
        fake.delete("cold", DeleteFrom::Partition("p8"), 4).await;
        fake.seal("cold").await;
        let jobs = world.jobs().await;
        let backup = back_up(&jobs, &world).await;
        let then = fake.rows("cold").await.unwrap();
        let restored = restore(&jobs, &backup, &world.instance).await;
        completed(line, &restored);
        assert_eq!(restored.warnings, Vec::<String>::new(), "{line:?}");
        assert_eq!(fake.rows("cold").await.unwrap(), then, "{line:?}");

        fake.set(|faults| faults.import_brings_nothing = Some("p8".to_owned())).await;
        let failed = restore(&jobs, &backup, &world.instance).await;
        let RestoreState::Failed { failure, .. } = &failed.state else { panic!("{line:?}: {:?}", failed.state) };
        assert_eq!(failure.code, FailureCode::VerificationFailed, "{line:?}");
        assert!(
            failure.message.contains("an import into partition p8 brought no row"),
            "{line:?}: {}",
            failure.message
        );
        assert_eq!(fake.rows("cold").await.unwrap(), then, "{line:?}");
    });
    join_all(lines).await;
}

#[tokio::test]
async fn another_instance_accepts_backups_of_its_own_line_and_of_older_lines_only() {
    let pairs = [
        (Line::V2_3, Line::V2_4),
        (Line::V2_4, Line::V2_5_27),
        (Line::V2_5_4, Line::V2_6),
        (Line::V2_6, Line::V2_6),
        (Line::V2_6, Line::V2_5_27),
        (Line::V2_5_4, Line::V2_4),
    ]
    .map(async |(line, into)| {
        let world = World::of(line).await;
        fill(&world.fake).await;
        world.fake.set_database_property("database.replica.number", "1").await;
        let then = world.fake.rows("items").await;
        let jobs = world.jobs().await;
        let backup = back_up(&jobs, &world).await;
        let other = world.beside(into).await;
        register(jobs.ports.catalog.as_ref(), &other.instance).await;
        if into < line {
            let refused = restore::create(&jobs, request(&backup, &other.instance)).await.unwrap_err();
            assert!(matches!(refused, Error::EngineUnsupported { .. }), "{line:?} into {into:?}: {refused:?}");
            assert!(other.fake.collections().await.is_empty());
            return;
        }
        let restored = restore(&jobs, &backup, &other.instance).await;
        completed(line, &restored);
        assert_eq!(other.fake.rows("items").await, then, "{line:?} into {into:?}");
        let is_about_it = |warning: &String| warning.contains("database default has other properties");
        assert_eq!(restored.warnings.iter().any(is_about_it), line != Line::V2_3, "{line:?}: {:?}", restored.warnings);
    });
    join_all(pairs).await;
}

#[tokio::test]
async fn a_server_that_does_not_name_import_jobs_is_not_assumed_to_have_none() {
    // The lines run in parallel, because each waits for its server.
    let lines = Line::ALL.map(async |line| {
        let world = World::of(line).await;
        fill(&world.fake).await;
        let jobs = world.jobs().await;
        let backup = back_up(&jobs, &world).await;
        completed(line, &restore(&jobs, &backup, &world.instance).await);
        let tasks = world.milvus().await.import_tasks(&name("items")).await.unwrap();
        match tasks {
            ImportTasks::Named(ids) => assert_eq!(ids.len(), 2, "{line:?}: a job per partition"),
            ImportTasks::Unnamed => assert_eq!(line, Line::V2_4),
        }
    });
    join_all(lines).await;
}

#[tokio::test]
async fn the_reason_of_a_failed_import_is_in_the_restore_and_not_in_the_log() {
    let world = World::of(Line::V2_5_4).await;
    fill(&world.fake).await;
    let jobs = world.jobs().await;
    let backup = back_up(&jobs, &world).await;
    let reason = "row 7: the value 'ann@example.com' isn't a number";
    world.fake.set(|faults| faults.imports_fail = Some(reason.to_owned())).await;
    let log = Log::default();
    let lines = tracing_subscriber::fmt().json().with_writer(log.clone()).finish();
    let logging = tracing::subscriber::set_default(lines);
    let restored = restore(&jobs, &backup, &world.instance).await;
    drop(logging);
    let RestoreState::Failed { failure, .. } = &restored.state else { panic!("{:?}", restored.state) };
    assert_eq!(failure.code, FailureCode::ImportFailed);
    assert!(failure.message.contains(reason), "{}", failure.message);
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("an import failed") && logged.contains("IMPORT_FAILED"), "{logged}");
    assert!(!logged.contains("ann@example.com"), "{logged}");
}

/// A writer that keeps the log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Restores in slices of a second; returns the restore and the finished import jobs reported after each slice.
async fn restore_in_slices(jobs: &Jobs, backup: &Backup, into: &Instance) -> (Restore, Vec<u64>) {
    let accepted = restore::create(jobs, request(backup, into)).await.unwrap();
    let mut seen = Vec::new();
    loop {
        let deadline = Deadline::at(Utc::now() + TimeDelta::seconds(1));
        restore::run(jobs, &into.id, &accepted.id, deadline).await.unwrap();
        let found = jobs.ports.catalog.restore(&into.id, &accepted.id).await.unwrap().unwrap().value;
        match &found.state {
            RestoreState::Pending => {}
            RestoreState::Running(run) => seen.extend(run.progress.imports.map(|imports| imports.jobs_done)),
            _ => return (found, seen),
        }
    }
}

#[tokio::test]
async fn as_many_partitions_are_imported_concurrently_as_the_server_takes() {
    const PARTITIONS: usize = 64;
    let world = World::of(Line::V2_5_27).await;
    let fake = &world.fake;
    let partitions: Vec<String> = (0..PARTITIONS).map(|number| format!("p{number}")).collect();
    let names: Vec<&str> = partitions.iter().map(String::as_str).collect();
    fake.add_collection("items", &names, Loading::Loaded).await;
    for partition in &names {
        fake.insert("items", partition, 3).await;
    }
    fake.seal("items").await;
    let jobs = world.jobs().await;
    let then = fake.rows("items").await.unwrap();
    let backup = back_up(&jobs, &world).await;
    let pace = ImportPace { job: Duration::from_secs(1), side_by_side: 16, most: 20 };
    fake.set(|faults| faults.imports = Some(pace)).await;

    let begun = Instant::now();
    let (restored, seen) = restore_in_slices(&jobs, &backup, &world.instance).await;
    completed(Line::V2_5_27, &restored);
    assert_eq!(fake.rows("items").await.unwrap(), then);
    let (taken, refused) = fake.imports().await;
    assert_eq!(taken, PARTITIONS, "each partition once");
    assert!(refused > 0, "the server was asked for more jobs than it takes");
    assert!(seen.iter().any(|done| (1..PARTITIONS as u64).contains(done)), "no progress was reported: {seen:?}");
    // One after another, the jobs would take 64 s; with 16 at a time, the server needs 4 s.
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_index_that_cannot_be_recreated_is_a_warning_and_a_default_name_is_left_to_the_server() {
    let world = World::of(Line::V2_5_27).await;
    let fake = &world.fake;
    for collection in ["items", "users"] {
        fake.add_collection(collection, &[], Loading::Loaded).await;
        fake.insert(collection, "_default", 30).await;
        fake.seal(collection).await;
    }
    fake.index_path("items", "meta", "/a/b").await;
    let jobs = world.jobs().await;
    let then = [fake.rows("items").await, fake.rows("users").await];
    let backup = back_up(&jobs, &world).await;

    let restored = restore(&jobs, &backup, &world.instance).await;
    completed(Line::V2_5_27, &restored);
    assert_eq!(restored.warnings, Vec::<String>::new());
    assert_eq!(fake.indexes("items").await, ["vector", "meta/a/b"]);

    fake.set(|faults| faults.index_refused = Some("vector".to_owned())).await;
    let restored = restore(&jobs, &backup, &world.instance).await;
    completed(Line::V2_5_27, &restored);
    assert_eq!([fake.rows("items").await, fake.rows("users").await], then);
    for collection in ["items", "users"] {
        let expected = format!("default.{collection}: index vector on vector is not recreated: ");
        assert!(restored.warnings.iter().any(|warning| warning.starts_with(&expected)), "{:?}", restored.warnings);
        assert_eq!(fake.collections().await[collection], Loading::Released);
    }
    assert_eq!(fake.indexes("items").await, ["meta/a/b"]);
}

#[tokio::test]
async fn an_import_that_failed_before_its_worker_ended_is_seen_by_the_next_worker() {
    let world = World::of(Line::V2_5_27).await;
    let fake = &world.fake;
    // The collection isn't loaded, so that only the imports show how many rows there must be.
    fake.add_collection("items", &["first", "second"], Loading::Released).await;
    for partition in ["first", "second"] {
        fake.insert("items", partition, 5).await;
    }
    fake.seal("items").await;
    let jobs = world.jobs().await;
    let then = fake.rows("items").await.unwrap();
    let backup = back_up(&jobs, &world).await;
    // The first job has failed while the second runs for longer than the worker has left.
    let pace = ImportPace { job: Duration::from_secs(2), side_by_side: 1, most: 10 };
    fake.set(|faults| {
        faults.imports = Some(pace);
        faults.import_fails_once = Some("first".to_owned());
    })
    .await;

    let (restored, _) = restore_in_slices(&jobs, &backup, &world.instance).await;
    completed(Line::V2_5_27, &restored);
    assert_eq!(fake.rows("items").await.unwrap(), then);
    assert_eq!(fake.imports().await.0, 4, "both partitions are imported again");
}
