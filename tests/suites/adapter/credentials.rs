//! Secrets that are read seldom, can't be read at times, and change while jobs run.

use std::time::Duration;

use futures::future::{join_all, try_join_all};
use milvault_fake_milvus::{Access, Line, Loading, RootPassword};
use milvault_milvus::SecretError;
use milvault_ports::{GarbageHold, MilvusError};
use milvault_tests::world::{World, name};

const FIRST: &str = r#"{"username":"root","password":"first"}"#;
const SECOND: &str = r#"{"username":"root","password":"second"}"#;
const THIRD: &str = r#"{"token":"third"}"#;

async fn world(line: Line) -> World {
    World::with(line, Access::Token("root:first".to_owned()), Some(FIRST)).await
}

#[tokio::test]
async fn a_secret_is_read_once_for_all_connections() {
    let world = world(Line::V2_4).await;
    let connect = async || world.connector.connect(&world.instance).await?.version().await;
    try_join_all((0..20).map(|_| connect())).await.unwrap();
    connect().await.unwrap();
    assert_eq!(world.secret.reads(), 1);
}

#[tokio::test]
async fn a_secret_that_is_rotated_is_read_again_and_no_call_fails() {
    let world = world(Line::V2_5_8).await;
    world.fake.add_collection("items", &[], Loading::Released).await;
    world.fake.insert("items", "_default", 1).await;
    world.fake.seal("items").await;
    let milvus = world.milvus().await;
    milvus.version().await.unwrap();
    world.fake.let_in("root:second");
    world.secret.set(Ok(SECOND));
    milvus.version().await.unwrap();
    assert_eq!(world.secret.reads(), 2);
    // Many calls run at once, and REST follows gRPC.
    world.fake.let_in("third");
    world.secret.set(Ok(THIRD));
    let all = join_all((0..8).map(|_| milvus.databases())).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    let segments = milvus.segments(&name("items")).await.unwrap();
    let files = milvus.segment_files("default", segments[0].collection_id, &[segments[0].id]).await.unwrap();
    assert_eq!(files.map(|files| files.len()), Some(1));
    assert_eq!(world.secret.reads(), 3);
    world.milvus().await.version().await.unwrap();
    assert_eq!(world.secret.reads(), 3, "what was read again is known to those who connect later");
}

#[tokio::test]
async fn refused_credentials_that_have_not_changed_are_not_used_again() {
    let world = world(Line::V2_4).await;
    let milvus = world.milvus().await;
    milvus.version().await.unwrap();
    world.fake.let_in("root:second");
    for _ in 0..3 {
        let refused = milvus.version().await;
        assert!(matches!(refused, Err(MilvusError::Unauthenticated(_))), "{refused:?}");
    }
    assert_eq!(world.secret.reads(), 2, "it says the same");
    world.secret.set(Ok(SECOND));
    world.milvus().await.version().await.unwrap();
    assert_eq!(world.secret.reads(), 3);
}

#[tokio::test]
async fn credentials_that_never_worked_are_read_again_by_the_next_connection() {
    let world = world(Line::V2_4).await;
    let milvus = world.milvus().await;
    world.fake.let_in("third");
    world.secret.set(Ok(SECOND));
    let refused = milvus.version().await;
    assert!(matches!(refused, Err(MilvusError::Unauthenticated(_))), "{refused:?}");
    assert_eq!(world.secret.reads(), 2);
    world.secret.set(Ok(THIRD));
    world.milvus().await.version().await.unwrap();
    assert_eq!(world.secret.reads(), 3);
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_now_is_a_temporary_error() {
    let world = world(Line::V2_4).await;
    let throttled = || SecretError::Unavailable("ThrottlingException".to_owned());
    let connect = async || world.connector.connect(&world.instance).await.map(drop);
    world.secret.set(Err(throttled()));
    let failed = connect().await;
    assert!(matches!(&failed, Err(MilvusError::Unreachable(why)) if why.contains("Throttling")), "{failed:?}");
    world.secret.set(Ok(FIRST));
    let milvus = world.milvus().await;
    milvus.version().await.unwrap();
    // Whether the secret was rotated can't be found out now.
    world.fake.let_in("root:second");
    world.secret.set(Err(throttled()));
    let failed = milvus.version().await;
    assert!(matches!(&failed, Err(MilvusError::Unreachable(why)) if why.contains("Throttling")), "{failed:?}");
    world.secret.set(Ok(SECOND));
    milvus.version().await.unwrap();
}

#[tokio::test]
async fn a_secret_that_may_not_be_read_or_has_no_credentials_is_a_permanent_error() {
    let world = world(Line::V2_4).await;
    for says in [
        Err(SecretError::Refused("AccessDeniedException".to_owned())),
        Err(SecretError::Malformed("it has no text".to_owned())),
        Ok("{}"),
        Ok("root:first"),
    ] {
        world.secret.set(says.clone());
        let refused = world.connector.connect(&world.instance).await.map(drop);
        assert!(matches!(refused, Err(MilvusError::Unauthenticated(_))), "{says:?} {refused:?}");
    }
}

#[tokio::test]
async fn instances_that_differ_in_an_endpoint_or_in_the_secret_have_connections_of_their_own() {
    let world = world(Line::V2_4).await;
    let others = [
        |instance: &mut milvault_model::Instance| instance.management_endpoint = None,
        |instance: &mut milvault_model::Instance| {
            instance.endpoint = instance.endpoint.replace("127.0.0.1", "localhost")
        },
        |instance: &mut milvault_model::Instance| {
            instance.auth.as_mut().unwrap().secret_arn = "arn:aws:secretsmanager:eu-west-1:1:secret:other".to_owned();
        },
    ];
    world.milvus().await;
    for (number, change) in others.into_iter().enumerate() {
        let mut other = world.instance.clone();
        change(&mut other);
        let _ = world.connector.connect(&other).await;
        assert_eq!(world.secret.reads(), number + 2);
    }
}

#[tokio::test]
async fn a_management_endpoint_gets_a_rotated_password() {
    let world = World::with(Line::V2_6, Access::Open, Some(FIRST)).await;
    let milvus = world.milvus().await;
    world.fake.set(|faults| faults.management_is_locked = Some(RootPassword("second".to_owned()))).await;
    world.secret.set(Ok(SECOND));
    let hold = milvus.hold_garbage(Duration::from_secs(60)).await.unwrap();
    assert!(matches!(hold, GarbageHold::Held { .. }));
    assert_eq!(world.secret.reads(), 2);
}
