//! Grants on restored collections: newer servers move a collection's grants when it is renamed, and drop them with it.

use std::{future::poll_fn, pin::pin, task::Poll};

use chrono::TimeDelta;
use milvault_fake_milvus::{Access, Change, Grant, Line, Loading, User};
use milvault_harness::{drive, minutes_left};
use milvault_jobs::{
    Jobs,
    restore::{self, CreateRestore},
};
use milvault_model::{Backup, CollectionStage, Restore, RestoreState, previous_name, rebuilt_name};
use milvault_ports::PageRequest;
use milvault_tests::world::{World, back_up, back_up_as, name, request, restore};

const ROOT: &str = r#"{"username": "root", "password": "Milvus"}"#;
const ANN: &str = r#"{"username": "ann", "password": "secret"}"#;

/// The last line that doesn't move grants, and the first that does.
const LINES: [Line; 2] = [Line::V2_5_27, Line::V2_6];

fn on(collection: &str, privilege: &str) -> Grant {
    Grant::of("default", "Collection", collection, privilege)
}

/// The grants of the role `reader`: single privileges and a group on a collection, and grants on everything.
fn grants() -> Vec<Grant> {
    vec![
        on("items", "Query"),
        on("items", "Search"),
        Grant::of("default", "Global", "items", "CollectionReadOnly"),
        on("other", "Query"),
        on("*", "Load"),
        Grant::of("*", "Global", "*", "ShowCollections"),
    ]
}

/// Returns a world with two collections, where ann is a reader.
async fn world(line: Line) -> World {
    let users = vec![User::root(), User::with_role("ann", "reader", grants())];
    filled(World::with(line, Access::Users(users), Some(ROOT)).await).await
}

async fn filled(world: World) -> World {
    for collection in ["items", "other"] {
        world.fake.add_collection(collection, &[], Loading::Released).await;
        world.fake.insert(collection, "_default", 10).await;
    }
    world
}

/// Sorts grants, to compare them in any order.
fn sorted(mut grants: Vec<Grant>) -> Vec<Grant> {
    grants.sort_by_key(|grant| format!("{grant:?}"));
    grants
}

/// The reader's grants, without those that moved to other names.
async fn granted(world: &World) -> Vec<Grant> {
    let mut grants = world.fake.grants("reader").await;
    grants.retain(|grant| !grant.name.contains("__before_"));
    sorted(grants)
}

/// Returns a request for `items` alone: a restore of everything would also restore roles.
fn only_items(backup: &Backup, world: &World) -> CreateRestore {
    CreateRestore { selection: vec!["default.items".parse().unwrap()], ..request(backup, &world.instance) }
}

async fn restore_items(jobs: &Jobs, backup: &Backup, world: &World) -> Restore {
    let accepted = restore::create(jobs, only_items(backup, world)).await.unwrap();
    completed(drive(jobs, &world.instance.id, &accepted.id).await)
}

fn completed(restore: Restore) -> Restore {
    assert!(matches!(restore.state, RestoreState::Completed { .. }), "{:?}", restore.state);
    restore
}

async fn roll_back(jobs: &Jobs, world: &World, restored: &Restore) -> Restore {
    restore::rollback(jobs, &world.instance.id, &restored.id, None).await.unwrap();
    let back = drive(jobs, &world.instance.id, &restored.id).await;
    assert!(matches!(back.state, RestoreState::RolledBack { .. }), "{:?}", back.state);
    back
}

#[tokio::test]
async fn grants_on_a_name_survive_the_swap_and_the_rollback() {
    for line in LINES {
        let world = world(line).await;
        let jobs = world.jobs().await;
        let backup = back_up(&jobs, &world).await;
        world.fake.grant("reader", on("items", "Insert")).await;
        // This grant is made on the live collection after the restore has read everything about it.
        let late = Change::Grant("reader".to_owned(), on("items", "Delete"));
        world.fake.set(|faults| faults.before_rename = Some(("items".to_owned(), late))).await;
        let restored = restore_items(&jobs, &backup, &world).await;
        let mut all = [grants(), vec![on("items", "Insert"), on("items", "Delete")]].concat();
        assert_eq!(granted(&world).await, sorted(all.clone()), "{line:?}");
        assert_eq!(restored.warnings, Vec::<String>::new(), "{line:?}");

        // This grant is made on the restored collection, which the rollback drops.
        world.fake.grant("reader", on("items", "Upsert")).await;
        all.push(on("items", "Upsert"));
        let back = roll_back(&jobs, &world, &restored).await;
        assert_eq!(sorted(world.fake.grants("reader").await), sorted(all), "{line:?}");
        assert_eq!(back.warnings, Vec::<String>::new(), "{line:?}");
    }
}

#[tokio::test]
async fn grants_of_a_collection_that_is_dropped_during_its_swap_come_from_the_ledger() {
    let world = world(Line::V2_6).await;
    let mut jobs = world.jobs().await;
    jobs.settings.lease = TimeDelta::seconds(6);
    let backup = back_up(&jobs, &world).await;
    let accepted = restore::create(&jobs, only_items(&backup, &world)).await.unwrap();
    let [rebuilt, previous] = [rebuilt_name, previous_name].map(|of| of(&name("items"), &accepted.id).collection);
    // The answer of the first rename is lost: the next worker finds the name without grants.
    let set = |faults: &mut milvault_fake_milvus::Faults| {
        faults.unanswered = 1;
        faults.before_rename = Some((rebuilt, Change::Drop(previous)));
    };
    world.fake.set(set).await;
    completed(drive(&jobs, &world.instance.id, &accepted.id).await);
    assert_eq!(granted(&world).await, sorted(grants()));
}

#[tokio::test]
async fn a_dropped_collection_gets_the_grants_of_the_backup() {
    for line in LINES {
        let world = world(line).await;
        let jobs = world.jobs().await;
        let backup = back_up(&jobs, &world).await;
        world.fake.change(&Change::Drop("items".to_owned())).await;
        assert_eq!(granted(&world).await == sorted(grants()), !line.moves_grants());
        restore_items(&jobs, &backup, &world).await;
        assert_eq!(granted(&world).await, sorted(grants()), "{line:?}");

        // There are no grants under another name.
        let copy = CreateRestore { rename: [(name("items"), name("copy"))].into(), ..only_items(&backup, &world) };
        let accepted = restore::create(&jobs, copy).await.unwrap();
        completed(drive(&jobs, &world.instance.id, &accepted.id).await);
        assert_eq!(granted(&world).await, sorted(grants()), "{line:?}");
    }
}

#[tokio::test]
async fn a_restore_of_everything_gives_a_role_its_grants_back() {
    for line in LINES {
        let world = world(line).await;
        let jobs = world.jobs().await;
        let backup = back_up(&jobs, &world).await;
        world.fake.revoke_all("reader").await;
        let restored = completed(restore(&jobs, &backup, &world.instance).await);
        assert_eq!(granted(&world).await, sorted(grants()), "{line:?}");
        let expected = "restored from the backup: grants of Query on default.items to role reader, ";
        assert!(restored.warnings.iter().any(|warning| warning.starts_with(expected)), "{:?}", restored.warnings);
    }
}

#[tokio::test]
async fn grants_that_moved_to_a_previous_collection_do_not_return_to_its_old_name() {
    let world = world(Line::V2_6).await;
    let jobs = world.jobs().await;
    let backup = back_up(&jobs, &world).await;
    restore_items(&jobs, &backup, &world).await;
    assert_ne!(sorted(world.fake.grants("reader").await), granted(&world).await, "the previous collection has them");
    let backup = back_up_as(&jobs, &world, "later").await;
    world.fake.revoke_all("reader").await;
    completed(restore(&jobs, &backup, &world.instance).await);
    assert_eq!(sorted(world.fake.grants("reader").await), sorted(grants()));
}

#[tokio::test]
async fn a_user_who_may_not_read_grants_restores_without_them_and_gets_one_warning() {
    let all = ["DescribeAlias", "DescribeDatabase", "BackupRBAC"].map(|of| Grant::of("*", "Global", "*", of));
    let all = [vec![Grant::of("*", "Collection", "*", "*")], all.to_vec()].concat();
    let users = vec![
        User::root(),
        User::with_role("ann", "operator", all),
        User::with_role("bob", "reader", vec![on("items", "Query")]),
    ];
    let world = filled(World::with(Line::V2_6, Access::Users(users), Some(ANN)).await).await;
    let jobs = world.jobs().await;
    let backup = back_up(&jobs, &world).await;
    let restored = completed(restore(&jobs, &backup, &world.instance).await);
    let is_about_grants =
        |warning: &&String| warning.contains("cannot be read") && warning.contains("PrivilegeSelectOwnership");
    assert_eq!(restored.warnings.iter().filter(is_about_grants).count(), 1, "{:?}", restored.warnings);
    roll_back(&jobs, &world, &restored).await;
    assert_eq!(world.fake.grants("reader").await, [on("items", "Query")], "it came back with its collection");
}

#[tokio::test]
async fn a_refused_grant_is_named_in_a_warning_and_the_others_are_given() {
    let world = world(Line::V2_6).await;
    let jobs = world.jobs().await;
    let backup = back_up(&jobs, &world).await;
    world.fake.set(|faults| faults.grant_refused = Some("Search".to_owned())).await;
    let restored = restore_items(&jobs, &backup, &world).await;
    let mut given = grants();
    given.retain(|grant| grant.privilege != "Search");
    assert_eq!(granted(&world).await, sorted(given));
    let expected = "grants that could not be given back: Search on default.items to role reader (";
    assert!(restored.warnings.iter().any(|warning| warning.starts_with(expected)), "{:?}", restored.warnings);
}

#[tokio::test]
async fn a_warning_is_kept_when_its_worker_ends_before_writing_it_to_the_restore() {
    let world = world(Line::V2_6).await;
    let mut jobs = world.jobs().await;
    jobs.settings.lease = TimeDelta::seconds(6);
    let backup = back_up(&jobs, &world).await;
    world.fake.set(|faults| faults.grant_refused = Some("Search".to_owned())).await;
    let selection = ["default.items", "default.other"].map(|pattern| pattern.parse().unwrap()).to_vec();
    let accepted = restore::create(&jobs, CreateRestore { selection, ..request(&backup, &world.instance) }).await;
    let id = accepted.unwrap().id;
    let is_swapped = async || {
        let ledger = jobs.ports.catalog.ledger(&id, PageRequest { after: None, limit: 1 }).await.unwrap();
        ledger.items.iter().any(|line| matches!(line.stage, CollectionStage::Swapped(_)))
    };
    let mut dies = pin!(async {
        while !is_swapped().await {
            tokio::task::yield_now().await;
        }
    });
    let deadline = minutes_left(&jobs, 5);
    let mut works = Box::pin(restore::run(&jobs, &world.instance.id, &id, deadline));
    let worked = poll_fn(|context| match dies.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => works.as_mut().poll(context).map(Some),
    });
    assert!(worked.await.is_none(), "the worker died before its end");
    drop(works);
    let expected = "grants that could not be given back: Search on default.items to role reader (";
    let has_warning = |restore: &Restore| restore.warnings.iter().any(|warning| warning.starts_with(expected));
    let left = jobs.ports.catalog.restore(&world.instance.id, &id).await.unwrap().unwrap().value;
    assert!(!has_warning(&left), "the worker died too late");
    world.fake.set(|faults| faults.grant_refused = None).await;
    let restored = completed(drive(&jobs, &world.instance.id, &id).await);
    assert!(has_warning(&restored), "{:?}", restored.warnings);
}

#[tokio::test]
async fn a_grant_whose_answer_is_lost_is_repeated() {
    let world = world(Line::V2_6).await;
    let mut jobs = world.jobs().await;
    jobs.settings.lease = TimeDelta::seconds(6);
    let backup = back_up(&jobs, &world).await;
    // The lost answers are those of both renames and of the first grant.
    world.fake.set(|faults| faults.unanswered = 3).await;
    let restored = restore_items(&jobs, &backup, &world).await;
    assert_eq!(granted(&world).await, sorted(grants()));
    assert_eq!(restored.warnings, Vec::<String>::new());
}
