//! The promises of [`Objects`].

use std::sync::Arc;

use chrono::{TimeDelta, Utc};
use futures::{StreamExt, future::join_all, stream};
use milvault_ports::{
    Bucket, CopyOutcome, CopyRequest, LockMode, Locking, ObjectMeta, Objects, ObjectsError, PutMode, PutOutcome,
};

use super::{Case, case::cases};

/// Object storage to test the promises on.
pub struct ObjectsFixture {
    /// The adapter.
    pub objects: Arc<dyn Objects>,
    /// The bucket that copies come from.
    pub source: Bucket,
    /// The bucket that copies go to.
    pub destination: Bucket,
    /// A bucket with Object Lock that locks new objects for a day.
    pub locked: Bucket,
    /// A bucket that doesn't exist.
    pub missing: Bucket,
    /// The prefix of every key of this run, and of no other run.
    pub prefix: String,
}

/// Every promise.
pub const CASES: &[Case<ObjectsFixture>] = cases![
    a_document_is_read_as_it_was_stored_and_replaced,
    a_part_of_an_object_is_read_as_far_as_there_is_one,
    a_put_where_nothing_may_be_leaves_what_is_there,
    of_puts_at_the_same_time_where_nothing_may_be_one_is_stored,
    a_listing_is_below_its_prefix_in_byte_order_after_a_key,
    a_listing_comes_in_pages_and_any_number_of_objects_is_removed,
    removing_what_does_not_exist_is_fine,
    a_copy_has_the_contents_and_the_etag_that_a_listing_shows,
    a_copy_of_nothing_is_nothing,
    a_copy_in_several_parts_is_whole,
    keys_of_all_kinds_are_copied,
    a_source_that_is_gone_or_another_is_not_copied,
    a_repeated_copy_is_already_there needs ConditionalCopy,
    a_copy_whose_source_became_another_is_already_there,
    another_object_at_the_destination_stays needs ConditionalCopy,
    of_copies_at_the_same_time_at_most_one_is_stored needs ConditionalCopy,
    a_bucket_tells_whether_it_locks,
    a_lock_is_prolonged_and_never_shortened,
    what_is_locked_is_only_hidden_by_removing_it,
    a_bucket_that_does_not_exist_is_named,
];

impl ObjectsFixture {
    fn key(&self, case: &str, key: &str) -> String {
        format!("{}/{case}/{key}", self.prefix)
    }

    async fn stored(&self, bucket: &Bucket, key: &str, body: &[u8]) -> ObjectMeta {
        let put = self.objects.put(bucket, key, body.to_vec(), PutMode::Replace).await.unwrap();
        assert_eq!(put, PutOutcome::Stored);
        self.listed(bucket, key).await.expect("what was stored is listed")
    }

    async fn listed(&self, bucket: &Bucket, key: &str) -> Option<ObjectMeta> {
        let listing = self.objects.list(bucket, key, None).await.unwrap();
        listing.items.into_iter().find(|object| object.key == key)
    }

    async fn copy(&self, source: &ObjectMeta, to_key: &str) -> Result<CopyOutcome, ObjectsError> {
        let request = CopyRequest {
            from: &self.source,
            from_key: &source.key,
            from_etag: &source.etag,
            size: source.size,
            to: &self.destination,
            to_key,
            stored_by: "first",
        };
        self.objects.copy(request).await
    }

    /// Copies an object and expects that it is stored as the listing shows it.
    async fn copied(&self, source: &ObjectMeta, to_key: &str) -> String {
        let CopyOutcome::Copied { etag } = self.copy(source, to_key).await.unwrap() else {
            panic!("a copy to where nothing was is stored anew");
        };
        let listed = self.listed(&self.destination, to_key).await.expect("a copy is listed");
        assert_eq!((listed.size, &listed.etag), (source.size, &etag));
        etag
    }

    /// Removes everything that the run stored.
    pub async fn clean_up(&self) {
        for bucket in [&self.source, &self.destination, &self.locked] {
            let prefix = format!("{}/", self.prefix);
            while let Ok(listing) = self.objects.list(bucket, &prefix, None).await {
                let keys: Vec<String> = listing.items.into_iter().map(|object| object.key).collect();
                if keys.is_empty() || self.objects.delete(bucket, &keys).await.is_err() {
                    break;
                }
            }
        }
    }
}

async fn a_document_is_read_as_it_was_stored_and_replaced(on: &ObjectsFixture) {
    let key = on.key("document", "manifest.json");
    assert_eq!(on.objects.get(&on.source, &key).await.unwrap(), None);
    for body in [&[0_u8, 255, 10, 13][..], b"", b"{}"] {
        let meta = on.stored(&on.source, &key, body).await;
        assert_eq!(meta.size, body.len() as u64);
        assert_eq!(on.objects.get(&on.source, &key).await.unwrap().as_deref(), Some(body));
    }
    assert_eq!(on.objects.get(&on.destination, &key).await.unwrap(), None, "buckets are apart");
}

async fn a_part_of_an_object_is_read_as_far_as_there_is_one(on: &ObjectsFixture) {
    let key = on.key("part", "log");
    assert_eq!(on.objects.get_range(&on.source, &key, 0..4).await.unwrap(), None);
    on.stored(&on.source, &key, b"0123456789").await;
    for (range, part) in [(0..4, "0123"), (3..5, "34"), (8..99, "89"), (10..99, ""), (99..120, ""), (4..4, "")] {
        let read = on.objects.get_range(&on.source, &key, range.clone()).await.unwrap();
        assert_eq!(read.as_deref(), Some(part.as_bytes()), "{range:?}");
    }
}

async fn a_put_where_nothing_may_be_leaves_what_is_there(on: &ObjectsFixture) {
    let key = on.key("if-absent", "manifest.json");
    let put = async |body: &[u8]| on.objects.put(&on.source, &key, body.to_vec(), PutMode::IfAbsent).await.unwrap();
    assert_eq!(put(b"first").await, PutOutcome::Stored);
    assert_eq!(put(b"second").await, PutOutcome::Occupied);
    assert_eq!(put(b"first").await, PutOutcome::Occupied, "not even the same contents are put again");
    assert_eq!(on.objects.get(&on.source, &key).await.unwrap().as_deref(), Some(&b"first"[..]));
    on.objects.delete(&on.source, std::slice::from_ref(&key)).await.unwrap();
    assert_eq!(put(b"third").await, PutOutcome::Stored);
}

async fn of_puts_at_the_same_time_where_nothing_may_be_one_is_stored(on: &ObjectsFixture) {
    let key = on.key("if-absent", "contended");
    let puts = (0..8_u8).map(|body| on.objects.put(&on.source, &key, vec![body], PutMode::IfAbsent));
    // S3 may leave open the outcome of one of two conflicting requests.
    let outcomes = join_all(puts).await;
    let stored: Vec<usize> = (0..8).filter(|&put| matches!(outcomes[put], Ok(PutOutcome::Stored))).collect();
    assert_eq!(stored.len(), 1, "{outcomes:?}");
    assert_eq!(on.objects.get(&on.source, &key).await.unwrap(), Some(vec![stored[0] as u8]));
}

async fn a_listing_is_below_its_prefix_in_byte_order_after_a_key(on: &ObjectsFixture) {
    let keys: Vec<String> =
        ["a/1", "a/10", "a/2", "a/B", "a/_", "a/b", "a/ä", "aa", "b/1"].map(|key| on.key("list", key)).to_vec();
    for key in keys.iter().rev() {
        on.stored(&on.source, key, key.as_bytes()).await;
    }
    let list = async |prefix: &str, after: Option<String>| {
        let listing = on.objects.list(&on.source, &on.key("list", prefix), after.as_deref()).await.unwrap();
        assert!(listing.next.is_none());
        for object in &listing.items {
            assert_eq!(object.size, object.key.len() as u64);
            assert!(!object.etag.is_empty() && !object.etag.contains('"'), "{object:?}");
        }
        listing.items.into_iter().map(|object| object.key).collect::<Vec<_>>()
    };
    assert_eq!(list("a/", None).await, keys[..7]);
    assert_eq!(list("a", None).await, keys[..8]);
    assert_eq!(list("a/", Some(keys[1].clone())).await, keys[2..7]);
    assert_eq!(list("a/", Some(on.key("list", "a/11"))).await, keys[2..7], "no object needs to have the key");
    assert_eq!(list("a/", Some(on.key("list", "a"))).await, keys[..7], "the key may be before the prefix");
    assert_eq!(list("a/", Some(keys[6].clone())).await, keys[7..7]);
    assert_eq!(list("b", Some(keys[0].clone())).await, keys[8..], "and other keys may be between them");
    assert_eq!(list("nothing", None).await, keys[7..7]);
}

async fn a_listing_comes_in_pages_and_any_number_of_objects_is_removed(on: &ObjectsFixture) {
    const OBJECTS: usize = 1001;
    let prefix = on.key("pages", "");
    let keys: Vec<String> = (0..OBJECTS).map(|number| format!("{prefix}{number:04}")).collect();
    let puts = keys.iter().map(|key| on.objects.put(&on.source, key, vec![1], PutMode::Replace));
    let stored: Vec<_> = stream::iter(puts).buffer_unordered(16).collect().await;
    assert!(stored.into_iter().all(|put| put.unwrap() == PutOutcome::Stored));

    let mut found = Vec::new();
    loop {
        let after = found.last().map(String::as_str);
        let listing = on.objects.list(&on.source, &prefix, after).await.unwrap();
        assert!(listing.items.len() <= 1000);
        assert!(!listing.items.is_empty(), "a page that says that there is more is followed by some");
        found.extend(listing.items.into_iter().map(|object| object.key));
        if listing.next.is_none() {
            break;
        }
    }
    assert_eq!(found, keys);

    on.objects.delete(&on.source, &keys).await.unwrap();
    assert!(on.objects.list(&on.source, &prefix, None).await.unwrap().items.is_empty());
}

async fn removing_what_does_not_exist_is_fine(on: &ObjectsFixture) {
    let there = on.key("delete", "there & <here>");
    on.stored(&on.source, &there, b"x").await;
    on.objects.delete(&on.source, &[]).await.unwrap();
    let keys = [on.key("delete", "not there"), there.clone()];
    for _ in 0..2 {
        on.objects.delete(&on.source, &keys).await.unwrap();
        assert_eq!(on.objects.get(&on.source, &there).await.unwrap(), None);
    }
}

async fn a_copy_has_the_contents_and_the_etag_that_a_listing_shows(on: &ObjectsFixture) {
    let source = on.stored(&on.source, &on.key("copy", "source"), b"some rows").await;
    let to = on.key("copy", "destination");
    on.copied(&source, &to).await;
    assert_eq!(on.objects.get(&on.destination, &to).await.unwrap().as_deref(), Some(&b"some rows"[..]));
    assert_eq!(on.listed(&on.source, &source.key).await, Some(source), "the source is as it was");
}

async fn a_copy_of_nothing_is_nothing(on: &ObjectsFixture) {
    let source = on.stored(&on.source, &on.key("copy", "empty"), b"").await;
    let to = on.key("copy", "empty");
    on.copied(&source, &to).await;
    assert_eq!(on.objects.get(&on.destination, &to).await.unwrap(), Some(Vec::new()));
}

/// The object is larger than two parts of S3's least size, 5 MiB, for an adapter that copies in parts.
async fn a_copy_in_several_parts_is_whole(on: &ObjectsFixture) {
    let body: Vec<u8> = (0..11_u32 << 20).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect();
    let source = on.stored(&on.source, &on.key("copy", "large"), &body).await;
    let to = on.key("copy", "large");
    on.copied(&source, &to).await;
    let copy = on.objects.get(&on.destination, &to).await.unwrap();
    assert!(copy.as_deref() == Some(&body[..]), "the contents are the source's");
}

async fn keys_of_all_kinds_are_copied(on: &ObjectsFixture) {
    for (number, name) in ["a b", "a+b", "a%20b", "ä/注文", "a&b=c?d#e", "a'b\"c", "~a!*();:@,$[]"].iter().enumerate()
    {
        let key = on.key("keys", name);
        let body = [number as u8];
        let source = on.stored(&on.source, &key, &body).await;
        on.copied(&source, &key).await;
        assert_eq!(on.objects.get(&on.destination, &key).await.unwrap().as_deref(), Some(&body[..]), "{name}");
    }
}

async fn a_source_that_is_gone_or_another_is_not_copied(on: &ObjectsFixture) {
    let (key, to) = (on.key("gone", "source"), on.key("gone", "destination"));
    let planned = on.stored(&on.source, &key, b"planned").await;
    on.stored(&on.source, &key, b"another").await;
    assert_eq!(on.copy(&planned, &to).await.unwrap(), CopyOutcome::SourceGone);
    on.objects.delete(&on.source, std::slice::from_ref(&key)).await.unwrap();
    assert_eq!(on.copy(&planned, &to).await.unwrap(), CopyOutcome::SourceGone);
    assert_eq!(on.listed(&on.destination, &to).await, None);
}

fn there(etag: &str) -> CopyOutcome {
    CopyOutcome::AlreadyThere { etag: etag.to_owned(), stored_by: Some("first".to_owned()) }
}

async fn a_repeated_copy_is_already_there(on: &ObjectsFixture) {
    let source = on.stored(&on.source, &on.key("repeat", "source"), b"rows").await;
    let to = on.key("repeat", "destination");
    let etag = on.copied(&source, &to).await;
    for _ in 0..2 {
        assert_eq!(on.copy(&source, &to).await.unwrap(), there(&etag));
    }
}

async fn a_copy_whose_source_became_another_is_already_there(on: &ObjectsFixture) {
    let source = on.stored(&on.source, &on.key("outlive", "source"), b"rows").await;
    let to = on.key("outlive", "destination");
    let etag = on.copied(&source, &to).await;
    on.stored(&on.source, &source.key, b"other rows").await;
    assert_eq!(on.copy(&source, &to).await.unwrap(), there(&etag));
}

async fn another_object_at_the_destination_stays(on: &ObjectsFixture) {
    let to = on.key("occupied", "destination");
    on.stored(&on.destination, &to, b"another").await;
    for body in [&b"rows"[..], b"7 bytes"] {
        let source = on.stored(&on.source, &on.key("occupied", "source"), body).await;
        assert_eq!(on.copy(&source, &to).await.unwrap(), CopyOutcome::Occupied);
    }
    assert_eq!(on.objects.get(&on.destination, &to).await.unwrap().as_deref(), Some(&b"another"[..]));
}

async fn of_copies_at_the_same_time_at_most_one_is_stored(on: &ObjectsFixture) {
    let source = on.stored(&on.source, &on.key("contended", "source"), b"rows").await;
    let to = on.key("contended", "destination");
    let outcomes = join_all((0..8).map(|_| on.copy(&source, &to))).await;
    let is_stored = |outcome: &&Result<_, _>| matches!(outcome, Ok(CopyOutcome::Copied { .. }));
    assert_eq!(outcomes.iter().filter(is_stored).count(), 1, "{outcomes:?}");
    let is_fine = |outcome: &Result<_, _>| {
        matches!(outcome, Ok(CopyOutcome::Copied { .. } | CopyOutcome::AlreadyThere { .. }) | Err(_))
    };
    assert!(outcomes.iter().all(is_fine), "none takes the others for a change of the source: {outcomes:?}");
}

async fn a_bucket_that_does_not_exist_is_named(on: &ObjectsFixture) {
    fn refused<T: std::fmt::Debug>(result: Result<T, ObjectsError>, operation: &str) {
        assert!(matches!(result, Err(ObjectsError::Bucket { .. })), "{operation}: {result:?}");
    }
    let key = on.key("bucket", "key");
    refused(on.objects.list(&on.missing, &key, None).await, "list");
    refused(on.objects.get(&on.missing, &key).await, "get");
    refused(on.objects.delete(&on.missing, std::slice::from_ref(&key)).await, "delete");
    for mode in [PutMode::IfAbsent, PutMode::Replace] {
        refused(on.objects.put(&on.missing, &key, vec![1], mode).await, "put");
    }
    let source = on.stored(&on.source, &key, b"x").await;
    for (from, to) in [(&on.missing, &on.destination), (&on.source, &on.missing)] {
        let request = CopyRequest {
            from,
            from_key: &key,
            from_etag: &source.etag,
            size: source.size,
            to,
            to_key: &key,
            stored_by: "",
        };
        let copied = on.objects.copy(request).await;
        let is_named = copied.as_ref().is_err_and(|error| error.to_string().contains(&on.missing.name));
        assert!(is_named, "{copied:?}");
        refused(copied, "copy");
    }
    assert_eq!(on.objects.get(&on.destination, &key).await.unwrap(), None);
}

async fn a_bucket_tells_whether_it_locks(on: &ObjectsFixture) {
    assert_eq!(on.objects.locking(&on.source).await.unwrap(), None);
    let locking = on.objects.locking(&on.locked).await.unwrap();
    assert_eq!(locking, Some(Locking { mode: LockMode::Governance, period: TimeDelta::days(1) }));
    assert!(matches!(on.objects.locking(&on.missing).await, Err(ObjectsError::Bucket { .. })));
}

async fn a_lock_is_prolonged_and_never_shortened(on: &ObjectsFixture) {
    let key = on.key("lock", "object");
    on.stored(&on.locked, &key, b"x").await;
    let now = Utc::now();
    for days in [3, 3, 2] {
        let until = now + TimeDelta::days(days);
        on.objects.lock(&on.locked, &key, LockMode::Governance, until).await.unwrap();
    }
    let (nothing, hidden) = (on.key("lock", "nothing"), on.key("lock", "hidden"));
    on.stored(&on.locked, &hidden, b"x").await;
    on.objects.delete(&on.locked, std::slice::from_ref(&hidden)).await.unwrap();
    for gone in [&nothing, &hidden] {
        on.objects.lock(&on.locked, gone, LockMode::Governance, now).await.unwrap();
    }
    on.stored(&on.source, &key, b"x").await;
    let refused = on.objects.lock(&on.source, &key, LockMode::Governance, now).await;
    assert!(refused.is_err(), "the bucket doesn't lock");
}

async fn what_is_locked_is_only_hidden_by_removing_it(on: &ObjectsFixture) {
    let key = on.key("hidden", "object");
    on.stored(&on.locked, &key, b"x").await;
    on.objects.delete(&on.locked, std::slice::from_ref(&key)).await.unwrap();
    assert_eq!(on.objects.get(&on.locked, &key).await.unwrap(), None);
    assert!(on.listed(&on.locked, &key).await.is_none());
    // Another object may be stored under the key.
    let put = on.objects.put(&on.locked, &key, b"y".to_vec(), PutMode::IfAbsent).await.unwrap();
    assert_eq!(put, PutOutcome::Stored);
}
