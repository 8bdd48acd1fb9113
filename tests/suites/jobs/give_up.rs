//! Restores in which a collection can't be restored: all collections stay as they were, or only that one.

use std::collections::{BTreeMap, BTreeSet};

use milvault_fake_milvus::{Change, FakeMilvus, Line, Loading};
use milvault_harness::drive;
use milvault_jobs::{
    Jobs,
    restore::{self, CreateRestore},
};
use milvault_model::{
    Backup, CollectionRestore, CollectionState, FailureCode, Instance, Notice, NoticeKind, OnError, Restore,
    RestoreMode, RestoreState, previous_name, rebuilt_name,
};
use milvault_ports::{Objects, PageRequest};
use milvault_tests::world::{World, back_up, leave_a_gap, name, request, restore_as};

async fn lines(jobs: &Jobs, restore: &Restore) -> BTreeMap<String, CollectionRestore> {
    let page = jobs.ports.catalog.ledger(&restore.id, PageRequest { after: None, limit: 100 }).await.unwrap();
    page.items.into_iter().map(|line| (line.target.collection.clone(), line)).collect()
}

/// Returns a request that continues with the other collections if one fails.
fn request_to_continue(backup: &Backup, into: &Instance) -> CreateRestore {
    CreateRestore { on_error: OnError::Continue, ..request(backup, into) }
}

/// Creates two collections, each with an alias.
async fn fill(fake: &FakeMilvus) {
    for (collection, rows) in [("items", 40), ("users", 9)] {
        fake.add_collection(collection, &[], Loading::Loaded).await;
        fake.insert(collection, "_default", rows).await;
        fake.seal(collection).await;
        fake.point_alias(&format!("the_{collection}"), collection).await;
    }
}

/// The primary keys by partition.
type Rows = BTreeMap<String, BTreeSet<i64>>;

async fn rows(fake: &FakeMilvus) -> [Rows; 2] {
    [fake.rows("items").await.unwrap(), fake.rows("users").await.unwrap()]
}

/// Returns a world with a backup of two collections, and the rows of each.
async fn backed_up() -> (World, Jobs, Backup, [Rows; 2]) {
    let world = World::of(Line::V2_5_27).await;
    fill(&world.fake).await;
    let jobs = world.jobs().await;
    let backup = back_up(&jobs, &world).await;
    let then = rows(&world.fake).await;
    (world, jobs, backup, then)
}

#[tokio::test]
async fn a_collection_that_cannot_be_built_fails_alone_if_the_caller_continues_on_errors() {
    let world = World::of(Line::V2_6).await;
    let fake = &world.fake;
    fill(fake).await;
    leave_a_gap(fake, "items").await;
    let jobs = world.jobs().await;
    let [_, users] = rows(fake).await;
    let backup = back_up(&jobs, &world).await;
    for collection in ["items", "users"] {
        fake.insert(collection, "_default", 3).await;
    }
    // The alias that the backup has of the missing collection now stands for the other one.
    fake.point_alias("the_items", "users").await;
    let live = rows(fake).await;

    let stopped = restore_as(&jobs, request(&backup, &world.instance), &world.instance).await;
    assert!(matches!(stopped.state, RestoreState::Failed { .. }), "{:?}", stopped.state);
    assert_eq!(rows(fake).await, live);

    let restored = restore_as(&jobs, request_to_continue(&backup, &world.instance), &world.instance).await;
    assert!(matches!(restored.state, RestoreState::Completed { .. }), "{:?}", restored.state);
    assert_eq!(restored.is_complete(), Some(false));
    let reasons = restored.completeness.reasons().unwrap();
    assert!(reasons.len() == 1 && reasons[0].starts_with("default.items: "), "{reasons:?}");
    assert_eq!(rows(fake).await, [live[0].clone(), users]);
    assert_eq!(fake.alias("the_items").await.as_deref(), Some("users"), "it stays where it was");
    assert_eq!(fake.collections().await.len(), 3, "two, and one previous collection: {:?}", fake.collections().await);
    let lines = lines(&jobs, &restored).await;
    assert_eq!((lines["items"].state(), lines["users"].state()), (CollectionState::Failed, CollectionState::Restored));
    assert!(lines["items"].failure.as_ref().unwrap().message.contains("kept has ID"));
    let published: Vec<Notice> = world.events.published();
    assert_eq!(published.last().unwrap().kind, NoticeKind::RestoreIncomplete);

    restore::rollback(&jobs, &world.instance.id, &restored.id, None).await.unwrap();
    let back = drive(&jobs, &world.instance.id, &restored.id).await;
    assert!(matches!(back.state, RestoreState::RolledBack { .. }), "{:?}", back.state);
    assert_eq!(rows(fake).await, live);
    assert_eq!(fake.collections().await.len(), 2);
}

#[tokio::test]
async fn data_missing_from_a_backup_fails_only_its_own_collection() {
    let (world, jobs, backup, then) = backed_up().await;
    let fake = &world.fake;
    for collection in ["items", "users"] {
        fake.insert(collection, "_default", 3).await;
    }
    let live = rows(fake).await;
    let id = world.milvus().await.collection_id(&name("users")).await.unwrap().unwrap();
    let stored = world.objects.list(&world.snapshots, "", None).await.unwrap().items.into_iter();
    let of_users = stored.map(|object| object.key).find(|key| key.contains(&format!("/{id}/"))).unwrap();
    world.objects.delete(&world.snapshots, &[of_users]).await.unwrap();

    let restored = restore_as(&jobs, request_to_continue(&backup, &world.instance), &world.instance).await;
    assert!(matches!(restored.state, RestoreState::Completed { .. }), "{:?}", restored.state);
    assert_eq!(rows(fake).await, [then[0].clone(), live[1].clone()]);
    let failure = lines(&jobs, &restored).await.remove("users").unwrap().failure.unwrap();
    assert_eq!(failure.code, FailureCode::SnapshotDamaged);
    let reason = failure.message.strip_prefix("default.users: the backup's object ");
    assert!(reason.is_some_and(|reason| reason.ends_with(" is missing or changed")), "{}", failure.message);

    // A restore with nothing left to restore isn't completed.
    let selection = vec!["default.users".parse().unwrap()];
    let only = CreateRestore { selection, ..request_to_continue(&backup, &world.instance) };
    let failed = restore_as(&jobs, only, &world.instance).await;
    let RestoreState::Failed { failure, .. } = &failed.state else { panic!("{:?}", failed.state) };
    assert_eq!(failure.code, FailureCode::SnapshotDamaged);
}

#[tokio::test]
async fn a_collection_that_cannot_be_swapped_in_fails_alone() {
    let (world, jobs, backup, then) = backed_up().await;
    let fake = &world.fake;
    let rename = [("items", "items_then"), ("users", "users_then")].map(|(of, to)| (name(of), name(to)));
    let mode = RestoreMode::Create;
    let beside = CreateRestore { rename: rename.into(), mode, ..request_to_continue(&backup, &world.instance) };
    let accepted = restore::create(&jobs, beside).await.unwrap();
    // Another client creates a collection of that name right before the rename.
    let rebuilt = rebuilt_name(&name("items_then"), &accepted.id);
    let taken = Change::Recreate("items_then".to_owned(), 1);
    fake.set(|faults| faults.before_rename = Some((rebuilt.collection, taken))).await;

    let restored = drive(&jobs, &world.instance.id, &accepted.id).await;
    assert!(matches!(restored.state, RestoreState::Completed { .. }), "{:?}", restored.state);
    let lines = lines(&jobs, &restored).await;
    assert_eq!(lines["items_then"].state(), CollectionState::Failed);
    assert_eq!(lines["items_then"].failure.as_ref().unwrap().code, FailureCode::CollectionExists);
    assert_eq!(fake.rows("items_then").await.unwrap()["_default"].len(), 1, "the other client's collection");
    assert_eq!(fake.rows("users_then").await.unwrap(), then[1]);
    assert_eq!(rows(fake).await, then);
    assert_eq!(fake.collections().await.len(), 4, "{:?}", fake.collections().await);
}

#[tokio::test]
async fn a_rollback_that_stops_halfway_reports_what_it_put_back() {
    let (world, jobs, backup, then) = backed_up().await;
    let fake = &world.fake;
    fake.insert("items", "_default", 3).await;
    let live = rows(fake).await;
    let restored = restore_as(&jobs, request(&backup, &world.instance), &world.instance).await;
    assert_eq!(restored.is_complete(), Some(true));
    let kept = previous_name(&name("users"), &restored.id);
    let dropped = Change::Drop(kept.collection);
    fake.set(|faults| faults.before_rename = Some(("users".to_owned(), dropped))).await;

    restore::rollback(&jobs, &world.instance.id, &restored.id, None).await.unwrap();
    let back = drive(&jobs, &world.instance.id, &restored.id).await;
    assert!(matches!(back.state, RestoreState::Completed { .. }), "{:?}", back.state);
    assert_eq!(rows(fake).await, [live[0].clone(), then[1].clone()]);
    assert_eq!(back.completeness.reasons().unwrap(), ["default.items: it was rolled back"]);
    assert_eq!(back.is_complete(), Some(false));
}

#[tokio::test]
async fn an_alias_that_does_not_move_causes_no_warning() {
    let (world, jobs, backup, then) = backed_up().await;
    let fake = &world.fake;
    fake.change(&Change::Drop("items".to_owned())).await;
    fake.point_alias("the_items", "users").await;
    let accepted = restore::create(&jobs, request_to_continue(&backup, &world.instance)).await.unwrap();
    // Another client creates a collection of that name right before the rename.
    let rebuilt = rebuilt_name(&name("items"), &accepted.id);
    let taken = Change::Recreate("items".to_owned(), 1);
    fake.set(|faults| faults.before_rename = Some((rebuilt.collection, taken))).await;

    let restored = drive(&jobs, &world.instance.id, &accepted.id).await;
    assert!(matches!(restored.state, RestoreState::Completed { .. }), "{:?}", restored.state);
    let lines = lines(&jobs, &restored).await;
    assert_eq!((lines["items"].state(), lines["users"].state()), (CollectionState::Failed, CollectionState::Restored));
    assert_eq!(fake.rows("items").await.unwrap()["_default"].len(), 1, "the other client's collection");
    assert_eq!(fake.rows("users").await.unwrap(), then[1]);
    assert_eq!(fake.alias("the_items").await.as_deref(), Some("users"), "it stays where it was");
    let warnings: Vec<&String> = restored.warnings.iter().filter(|warning| warning.contains("the_items")).collect();
    assert!(warnings.is_empty(), "{warnings:?}");
}
