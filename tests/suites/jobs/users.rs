//! Backups by users without all privileges.

use milvault_fake_milvus::{Access, Grant, Line, Loading, User};
use milvault_model::{Completeness, Principal, Visibility};
use milvault_ports::MilvusError;
use milvault_tests::world::{World, available, back_up, captured, name};

const ROOT: &str = r#"{"username": "root", "password": "Milvus"}"#;
const ANN: &str = r#"{"username": "ann", "password": "secret"}"#;

/// The privileges that a backup of a collection needs.
const PRIVILEGES: [&str; 4] = ["ShowPartitions", "GetLoadState", "Flush", "GetFlushState"];

fn grants(database: &str, collection: &str) -> Vec<Grant> {
    PRIVILEGES.iter().map(|privilege| Grant::of(database, "Collection", collection, privilege)).collect()
}

/// Returns a world with two collections, to which `secret` connects, and where ann has a role with these grants.
async fn world(line: Line, secret: &str, grants: Vec<Grant>) -> World {
    let users = vec![User::root(), User::with_role("ann", "reader", grants)];
    let world = World::with(line, Access::Users(users), Some(secret)).await;
    for collection in ["items", "secrets"] {
        world.fake.add_collection(collection, &[], Loading::Released).await;
        world.fake.insert(collection, "_default", 10).await;
    }
    world
}

async fn principal(world: &World) -> Principal {
    world.milvus().await.principal().await.unwrap()
}

fn reason(principal: &Principal) -> &str {
    match &principal.visibility {
        Visibility::Unsure { reason } => reason,
        Visibility::Everything => "",
    }
}

#[tokio::test]
async fn roots_backup_of_everything_is_complete_and_a_limited_users_is_not() {
    for line in Line::ALL {
        let world_of_root = world(line, ROOT, Vec::new()).await;
        let backup = back_up(&world_of_root.jobs().await, &world_of_root).await;
        let snapshot = available(&backup);
        assert_eq!(snapshot.completeness, Completeness::Complete, "{line:?}");
        let user = snapshot.captured_as.as_ref().and_then(|principal| principal.user.as_deref());
        assert_eq!(user, Some("root"), "{line:?}");
        assert_eq!(captured(&world_of_root, &backup).await.len(), 2, "{line:?}");

        let world_of_ann = world(line, ANN, grants("default", "items")).await;
        let backup = back_up(&world_of_ann.jobs().await, &world_of_ann).await;
        let Completeness::Incomplete { reasons } = &available(&backup).completeness else { panic!("{line:?}") };
        // 2.3 lists everything for everyone, and then refuses to flush it.
        let named = if line == Line::V2_3 { "default.secrets" } else { "'ann'" };
        assert!(reasons.iter().any(|reason| reason.contains(named)), "{line:?}: {reasons:?}");
        let names: Vec<String> =
            captured(&world_of_ann, &backup).await.into_iter().map(|capture| capture.name.collection).collect();
        assert_eq!(names, ["items"], "{line:?}");
    }
}

#[tokio::test]
async fn a_server_without_authorization_shows_everything_to_everyone() {
    for line in Line::ALL {
        for secret in [None, Some(ANN), Some(r#"{"token": "an-api-key"}"#)] {
            let world = World::with(line, Access::Open, secret).await;
            assert_eq!(
                principal(&world).await,
                Principal { user: None, visibility: Visibility::Everything },
                "{line:?}"
            );
        }
    }
}

#[tokio::test]
async fn grants_show_on_every_line_whether_a_user_sees_everything() {
    for line in Line::ALL {
        let everything = principal(&world(line, ANN, grants("*", "*")).await).await;
        assert_eq!(everything.user.as_deref(), Some("ann"));
        assert_eq!(everything.visibility, Visibility::Everything, "{line:?}");
        let all = vec![Grant::of("*", "Global", "*", "All")];
        assert_eq!(reason(&principal(&world(line, ANN, all).await).await), "", "{line:?}");
        for limited in [grants("default", "*"), grants("*", "items"), Vec::new()] {
            let found = principal(&world(line, ANN, limited.clone()).await).await;
            assert_eq!(reason(&found).contains("'ann'"), line != Line::V2_3, "{line:?} {limited:?}: {found:?}");
        }
        let group = vec![Grant::of("*", "Global", "*", "CollectionReadOnly")];
        let found = principal(&world(line, ANN, group).await).await;
        assert_eq!(reason(&found).is_empty(), line == Line::V2_3 || line >= Line::V2_5_27, "{line:?}: {found:?}");
    }
}

#[tokio::test]
async fn a_token_without_a_user_name_is_not_assumed_to_see_everything() {
    let world = World::with(Line::V2_6, Access::Token("key".to_owned()), Some(r#"{"token": "key"}"#)).await;
    let found = principal(&world).await;
    assert!(reason(&found).contains("no user name"), "{found:?}");
    let stranger = World::with(Line::V2_6, Access::Token("key".to_owned()), None).await;
    let refused = stranger.milvus().await.principal().await;
    assert!(matches!(refused, Err(MilvusError::Unauthenticated(_))), "{refused:?}");
}

#[tokio::test]
async fn a_missing_privilege_is_not_reported_as_wrong_credentials() {
    for line in Line::ALL {
        let world = world(line, ANN, vec![Grant::of("default", "Collection", "items", "Load")]).await;
        let milvus = world.milvus().await;
        let refused = milvus.describe(&name("items")).await;
        assert!(matches!(&refused, Err(MilvusError::Forbidden(reason)) if reason.contains("PrivilegeShowPartitions")));
        if line.describes_databases() {
            let refused = milvus.database_properties("default").await;
            assert!(matches!(refused, Err(MilvusError::Forbidden(_))), "{line:?}: {refused:?}");
        }
        if line >= Line::V2_5_27 {
            let refused = milvus.describe(&name("secrets")).await;
            assert!(matches!(refused, Err(MilvusError::Forbidden(_))), "{line:?}: {refused:?}");
        }
    }
}
