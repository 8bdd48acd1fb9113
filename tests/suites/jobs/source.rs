//! Tests of the registered storage's checks, and of servers with any root path.

use milvault_fake_milvus::{Line, Loading};
use milvault_harness::{backup_request, drive};
use milvault_jobs::{
    Error, Jobs,
    backup::{self, SourceData, find_data},
    restore::{self, CreateRestore},
};
use milvault_model::{Backup, BackupState, Instance, RestoreState, Storage};
use milvault_ports::{Objects, ObjectsError};
use milvault_tests::world::{ROOT, World, back_up, flush, name, request};

/// Returns the instance, registered with this storage.
fn registered(world: &World, bucket: &str, root: &str) -> Instance {
    let storage = Storage { bucket: bucket.to_owned(), root_path: root.parse().unwrap() };
    Instance { storage: Some(storage), ..world.instance.clone() }
}

async fn fill(world: &World, collection: &str) {
    world.fake.add_collection(collection, &[], Loading::Loaded).await;
    world.fake.insert(collection, "_default", 10).await;
    world.fake.seal(collection).await;
    // The fake server reports a segment as flushed from its second listing on.
    world.milvus().await.segments(&name(collection)).await.unwrap();
}

async fn ask(jobs: &Jobs, world: &World) -> Result<Backup, Error> {
    backup::create(jobs, backup_request(&world.instance.id, "now")).await
}

/// Removes all objects below a prefix of the data bucket.
async fn lose(world: &World, prefix: &str) {
    let listing = world.objects.list(&world.data, prefix, None).await.unwrap();
    let keys: Vec<String> = listing.items.into_iter().map(|object| object.key).collect();
    assert!(!keys.is_empty(), "{prefix}");
    world.objects.delete(&world.data, &keys).await.unwrap();
}

#[tokio::test]
async fn a_server_without_flushed_rows_does_not_show_whether_the_storage_is_right() {
    for line in Line::ALL {
        let world = World::of(line).await;
        let jobs = world.jobs().await;
        let wrong = registered(&world, "milvus-data", "elsewhere");
        assert_eq!(find_data(&jobs, &wrong).await.unwrap(), SourceData::Unknown, "{line:?}");
        world.fake.add_collection("items", &[], Loading::Loaded).await;
        world.fake.insert("items", "_default", 10).await;
        assert_eq!(find_data(&jobs, &wrong).await.unwrap(), SourceData::Unknown, "{line:?}");
        ask(&jobs, &world).await.unwrap();
    }
}

#[tokio::test]
async fn a_file_of_a_flushed_segment_shows_whether_the_storage_is_right() {
    for line in Line::ALL {
        let world = World::of(line).await;
        fill(&world, "items").await;
        let jobs = world.jobs().await;
        let found = find_data(&jobs, &world.instance).await.unwrap();
        assert!(
            matches!(&found, SourceData::Found(segment) if segment.collection == name("items")),
            "{line:?}: {found:?}"
        );
        for (bucket, root) in [("milvus-data", "elsewhere"), ("milvus-data", ""), ("other-data", ROOT)] {
            let found = find_data(&jobs, &registered(&world, bucket, root)).await.unwrap();
            let is_missing = matches!(&found, SourceData::Missing(segment) if segment.collection == name("items"));
            assert!(is_missing, "{line:?}, {bucket}, {root}: {found:?}");
        }
        let nowhere = find_data(&jobs, &registered(&world, "no-such-bucket", ROOT)).await;
        assert!(matches!(nowhere, Err(Error::Objects(ObjectsError::Bucket { .. }))), "{line:?}: {nowhere:?}");
    }
}

#[tokio::test]
async fn a_backup_from_the_wrong_storage_is_refused_at_once_naming_bucket_and_root_path() {
    for (bucket, root, said) in
        [("other-data", ROOT, "'files'"), ("milvus-data", "a/b", "'a/b'"), ("milvus-data", "", "(empty)")]
    {
        let mut world = World::of(Line::V2_4).await;
        fill(&world, "items").await;
        world.instance = registered(&world, bucket, root);
        let jobs = world.jobs().await;
        let refused = ask(&jobs, &world).await.unwrap_err();
        assert!(matches!(refused, Error::Objects(ObjectsError::Bucket { .. })), "{refused:?}");
        for part in [bucket, said, "default.items", "minio.bucketName", "minio.rootPath"] {
            assert!(refused.to_string().contains(part), "{refused}");
        }
        let backups = jobs.ports.catalog.job(&world.instance.id).await.unwrap();
        assert_eq!(backups, None, "nothing is written");
    }
}

#[tokio::test]
async fn a_segment_that_is_compacted_during_the_check_does_not_make_the_storage_wrong() {
    for line in Line::ALL {
        let world = World::of(line).await;
        world.fake.add_collection("items", &[], Loading::Loaded).await;
        world.fake.insert("items", "_default", 10).await;
        let jobs = world.jobs().await;
        flush(world.milvus().await.as_ref(), &name("items")).await;
        world.milvus().await.segments(&name("items")).await.unwrap();
        flush(world.milvus().await.as_ref(), &name("items")).await;
        // The check's first listing names a segment whose files are gone when the check looks for them.
        world.fake.set(|faults| faults.collect_after_listing = 1).await;
        let before = world.fake.logs("items").await;
        let found = find_data(&jobs, &world.instance).await.unwrap();
        assert!(matches!(found, SourceData::Found(_)), "{line:?}: {found:?}");
        assert_ne!(world.fake.logs("items").await, before, "{line:?}: it was compacted");
    }
}

#[tokio::test]
async fn a_collection_that_lost_its_files_does_not_make_the_storage_wrong() {
    let world = World::of(Line::V2_3).await;
    fill(&world, "first").await;
    let jobs = world.jobs().await;
    lose(&world, "files/insert_log/").await;
    let lost = find_data(&jobs, &world.instance).await.unwrap();
    assert!(matches!(&lost, SourceData::Missing(segment) if segment.collection == name("first")), "{lost:?}");
    fill(&world, "second").await;
    let found = find_data(&jobs, &world.instance).await.unwrap();
    assert!(matches!(&found, SourceData::Found(segment) if segment.collection == name("second")), "{found:?}");
}

#[tokio::test]
async fn a_server_with_any_root_path_is_backed_up_and_restored() {
    for (root, first) in [("", "insert_log/"), ("/", "insert_log/"), ("/a/b/c/", "a/b/c/insert_log/")] {
        for line in Line::ALL {
            let world = World::rooted(line, root).await;
            fill(&world, "items").await;
            assert!(
                !world.objects.list(&world.data, first, None).await.unwrap().items.is_empty(),
                "{line:?}: no key begins with a slash"
            );
            let rows = world.fake.rows("items").await;
            let jobs = world.jobs().await;
            let backup = back_up(&jobs, &world).await;
            assert!(matches!(backup.state, BackupState::Available(_)), "{line:?}, {root:?}: {:?}", backup.state);
            world.fake.insert("items", "_default", 7).await;

            let request = CreateRestore { keep_previous_hours: 0, ..request(&backup, &world.instance) };
            let accepted = restore::create(&jobs, request).await.unwrap();
            let state = drive(&jobs, &world.instance.id, &accepted.id).await.state;
            assert!(matches!(state, RestoreState::Completed { .. }), "{line:?}, {root:?}: {state:?}");
            assert_eq!(world.fake.rows("items").await, rows, "{line:?}, {root:?}");
            let staged = world.objects.list(&world.data, "milvault-staging/", None).await.unwrap();
            assert!(staged.items.is_empty(), "{line:?}, {root:?}");
        }
    }
}
