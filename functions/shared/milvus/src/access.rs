//! Access control: users, roles, privilege groups and grants.

use base64::{Engine, prelude::BASE64_STANDARD};
use milvault_model::{Grant, is_restore_name};
use milvault_ports::MilvusError;
use milvus::proto::milvus as api;
use prost::Message;

/// Encodes them as a backup stores them.
pub(crate) fn encode(meta: &api::RbacMeta) -> String {
    BASE64_STANDARD.encode(meta.encode_to_vec())
}

/// Decodes them from a backup, without grants on a restore's own collections, which came from collections that it
/// renamed.
pub(crate) fn decode(captured: &str) -> Result<api::RbacMeta, MilvusError> {
    let damaged = |reason: String| MilvusError::Refused(format!("what the backup has of them: {reason}"));
    let captured = BASE64_STANDARD.decode(captured).map_err(|error| damaged(error.to_string()))?;
    let mut captured = api::RbacMeta::decode(captured.as_slice()).map_err(|error| damaged(error.to_string()))?;
    captured.grants.retain(|grant| !is_restore_name(&grant.object_name));
    Ok(captured)
}

/// Converts a grant of the server. A grant older than databases belongs to the default database (`SplitObjectName` in
/// `pkg/util/funcutil/policy.go`).
pub(crate) fn grant(entity: api::GrantEntity) -> Grant {
    let privilege = entity.grantor.and_then(|grantor| grantor.privilege);
    Grant {
        role: entity.role.unwrap_or_default().name,
        database: if entity.db_name.is_empty() { "default".to_owned() } else { entity.db_name },
        object: entity.object.unwrap_or_default().name,
        name: entity.object_name,
        privilege: privilege.unwrap_or_default().name,
    }
}

/// Converts a grant for the server, which adds the grantor (`OperatePrivilege` in `internal/proxy/impl.go`).
pub(crate) fn entity(grant: &Grant) -> api::GrantEntity {
    let privilege = api::PrivilegeEntity { name: grant.privilege.clone() };
    api::GrantEntity {
        role: Some(api::RoleEntity { name: grant.role.clone(), ..Default::default() }),
        object: Some(api::ObjectEntity { name: grant.object.clone() }),
        object_name: grant.name.clone(),
        grantor: Some(api::GrantorEntity { privilege: Some(privilege), ..Default::default() }),
        db_name: grant.database.clone(),
    }
}

/// The captured users, roles, privilege groups and grants that the server doesn't have, and their names. The server
/// refuses to restore any that exists (`internal/rootcoord/meta_table.go`, `RestoreRBAC`).
pub(crate) fn missing(captured: api::RbacMeta, present: &api::RbacMeta) -> (api::RbacMeta, Vec<String>) {
    let mut names = Vec::new();
    let users: Vec<_> = captured
        .users
        .into_iter()
        .filter(|user| present.users.iter().all(|known| known.user != user.user))
        .inspect(|user| names.push(format!("user {}", user.user)))
        .collect();
    let roles: Vec<_> = captured
        .roles
        .into_iter()
        .filter(|role| present.roles.iter().all(|known| known.name != role.name))
        .inspect(|role| names.push(format!("role {}", role.name)))
        .collect();
    let privilege_groups: Vec<_> = captured
        .privilege_groups
        .into_iter()
        .filter(|group| present.privilege_groups.iter().all(|known| known.group_name != group.group_name))
        .inspect(|group| names.push(format!("privilege group {}", group.group_name)))
        .collect();
    // The grants of existing roles are granted one by one, because the server would refuse the whole request for them.
    let is_of_missing =
        |grant: &api::GrantEntity| grant.role.as_ref().is_some_and(|of| roles.iter().any(|role| role.name == of.name));
    let grants = captured.grants.into_iter().filter(is_of_missing).collect();
    (api::RbacMeta { users, roles, grants, privilege_groups }, names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(name: &str) -> api::RoleEntity {
        api::RoleEntity { name: name.to_owned(), ..Default::default() }
    }

    fn meta(users: &[&str], roles: &[&str], groups: &[&str]) -> api::RbacMeta {
        let user = |name: &&str| api::UserInfo { user: (*name).to_owned(), ..Default::default() };
        let group = |name: &&str| api::PrivilegeGroupInfo { group_name: (*name).to_owned(), ..Default::default() };
        let grant = |name: &&str| api::GrantEntity { role: Some(role(name)), ..Default::default() };
        api::RbacMeta {
            users: users.iter().map(user).collect(),
            roles: roles.iter().map(|name| role(name)).collect(),
            grants: roles.iter().map(grant).collect(),
            privilege_groups: groups.iter().map(group).collect(),
        }
    }

    #[test]
    fn only_what_does_not_exist_comes_back_and_with_a_role_its_grants() {
        let captured = meta(&["root", "ann"], &["admin", "reader"], &["ours"]);
        let (back, names) = missing(captured, &meta(&["root", "bob"], &["admin"], &[]));
        assert_eq!(back, meta(&["ann"], &["reader"], &["ours"]));
        assert_eq!(names, ["user ann", "role reader", "privilege group ours"]);
    }

    #[test]
    fn nothing_comes_back_where_all_is_there() {
        let all = meta(&["root"], &["admin"], &["ours"]);
        assert_eq!(missing(all.clone(), &all), (api::RbacMeta::default(), Vec::new()));
    }
}
