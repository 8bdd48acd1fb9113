//! The collections that a user can see.
//!
//! With authorization on, the root coordinator omits from its lists every object that none of the user's roles has a
//! grant on (`getCurrentUserVisibleDatabases` and `getCurrentUserVisibleCollections` in
//! `internal/rootcoord/root_coord.go`, 2.5 and 2.6; in 2.4, `Execute` in `list_db_task.go` and
//! `show_collection_task.go` in the same folder). It doesn't report the omission: a list that lacks most of the
//! collections is an ordinary answer.

use milvault_model::{EngineVersion, Visibility};
use milvus::proto::{common::ObjectPrivilege, milvus as api};

/// The user that needs no role, unless `common.security.rootShouldBindRole` is set, which makes it a user like any
/// other (`PrivilegeInterceptor` in `internal/proxy/privilege_interceptor.go`, since 2.5; 2.3 and 2.4 have no such
/// setting).
pub(crate) const ROOT: &str = "root";
/// The role that has every privilege (`RoleAdmin` in `pkg/util/constant.go`).
const ADMIN: &str = "admin";
/// The role of every user. Its grants make nothing visible (`getCurrentUserVisibleCollections`, 2.5 and 2.6).
const PUBLIC: &str = "public";
/// Stands for any database or any object.
const ANY: &str = "*";

/// Whether a server of this version omits anything from its lists. The 2.3 line doesn't, as of 2.3.5
/// (`internal/rootcoord`, `list_db_task.go` and `show_collection_task.go`): every user who may call them sees
/// everything. Later releases of 2.3 weren't examined.
pub(crate) fn filters_lists(version: &str) -> bool {
    is_since(version, [2, 3, 6])
}

/// Whether a grant of a group of privileges makes its collections visible (pull request 41204 to the 2.5 line).
fn counts_groups(version: &str) -> bool {
    is_since(version, [2, 5, 10])
}

/// Whether a version is at least `first`. A build without a version number counts as the newest version.
fn is_since(version: &str, first: [u32; 3]) -> bool {
    EngineVersion::parse(version).is_none_or(|version| version.milvus() >= first)
}

/// Whether the server lets the user `root` pass without checking its roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RootCheck {
    /// The user may list all users, which no grant allows.
    PassesUnchecked,
    /// The user may not list all users, or isn't `root`.
    Checked,
}

/// A user as the server describes it.
#[derive(Debug, Clone)]
pub(crate) struct User<'a> {
    pub(crate) name: &'a str,
    /// The roles bound to it.
    pub(crate) roles: Vec<String>,
    /// The grants of these roles, in all databases.
    pub(crate) grants: Vec<api::GrantEntity>,
    pub(crate) root: RootCheck,
}

impl User<'_> {
    pub(crate) fn is_admin(&self) -> bool {
        self.roles.iter().any(|role| role == ADMIN)
    }

    /// The roles whose grants make objects visible.
    pub(crate) fn counted_roles(&self) -> impl Iterator<Item = &String> {
        self.roles.iter().filter(|role| *role != PUBLIC)
    }

    /// What the user sees on a server of this version.
    pub(crate) fn visibility(&self, version: &str) -> Visibility {
        let sees_all = self.is_admin()
            // A grant about users, or a grant of a wider kind, might be the reason why the user may list all users.
            || (self.root == RootCheck::PassesUnchecked && self.grants.iter().all(|grant| object(grant) == "Collection"))
            || self.grants.iter().any(|grant| shows_everything(grant, version));
        if sees_all {
            return Visibility::Everything;
        }
        let roles: Vec<&str> = self.counted_roles().map(String::as_str).collect();
        let name = self.name;
        let roles = match roles.as_slice() {
            [] => "it has no role".to_owned(),
            roles => format!("its roles ({}) don't grant that", roles.join(", ")),
        };
        unsure(format!(
            "the user '{name}' may not see every collection: {roles}. Give it the role admin, or a privilege on all \
             collections ('*') of all databases ('*'), for example CollectionReadOnly"
        ))
    }
}

pub(crate) fn unsure(reason: String) -> Visibility {
    Visibility::Unsure { reason }
}

fn object(grant: &api::GrantEntity) -> &str {
    grant.object.as_ref().map_or("", |object| &object.name)
}

fn privilege(grant: &api::GrantEntity) -> &str {
    let privilege = grant.grantor.as_ref().and_then(|grantor| grantor.privilege.as_ref());
    privilege.map_or("", |privilege| &privilege.name)
}

/// Whether this grant alone makes every collection of every database visible, both existing and future ones.
///
/// A grant in all databases makes all of them visible. All collections of a database become visible by a grant of every
/// privilege (`All` on `Global`), by any grant on all objects of the kind `Collection`, and by a grant on all
/// collections of a group of privileges for collections, whether built in or custom (see the functions named above, and
/// `IsCollectionPrivilegeGroup` in `pkg/util/paramtable/rbac_param.go`).
fn shows_everything(grant: &api::GrantEntity, version: &str) -> bool {
    let (object, privilege) = (object(grant), privilege(grant));
    let is_group = || counts_groups(version) && is_group_of_collections(privilege);
    grant.db_name == ANY
        && match object {
            "Global" if privilege == "All" => true,
            "Collection" => grant.object_name == ANY,
            _ => grant.object_name == ANY && is_group(),
        }
}

/// Whether this is the name of a group that makes collections visible: a built-in group at the level of collections, or
/// a custom group, whose name is that of no privilege and no built-in group.
fn is_group_of_collections(name: &str) -> bool {
    let is_built_in = ObjectPrivilege::from_str_name(&format!("PrivilegeGroup{name}")).is_some();
    let is_privilege = ObjectPrivilege::from_str_name(&format!("Privilege{name}")).is_some();
    match (is_built_in, is_privilege) {
        (true, _) => name.starts_with("Collection"),
        (false, is_privilege) => !is_privilege && !name.is_empty() && name != ANY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(database: &str, object: &str, name: &str, privilege: &str) -> api::GrantEntity {
        let privilege = api::PrivilegeEntity { name: privilege.to_owned() };
        api::GrantEntity {
            object: Some(api::ObjectEntity { name: object.to_owned() }),
            object_name: name.to_owned(),
            db_name: database.to_owned(),
            grantor: Some(api::GrantorEntity { privilege: Some(privilege), ..Default::default() }),
            ..Default::default()
        }
    }

    fn user(roles: &[&str], grants: Vec<api::GrantEntity>) -> User<'static> {
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        User { name: "ann", roles, grants, root: RootCheck::Checked }
    }

    fn sees_all(user: &User<'_>, version: &str) -> bool {
        user.visibility(version) == Visibility::Everything
    }

    #[test]
    fn an_admin_sees_everything_and_a_user_without_roles_may_not() {
        assert!(sees_all(&user(&["reader", "admin"], Vec::new()), "2.6.18"));
        let Visibility::Unsure { reason } = user(&["public"], Vec::new()).visibility("2.6.18") else { panic!() };
        assert!(reason.contains("'ann'") && reason.contains("no role") && reason.contains("CollectionReadOnly"));
        let Visibility::Unsure { reason } = user(&["reader"], Vec::new()).visibility("2.6.18") else { panic!() };
        assert!(reason.contains("reader"), "{reason}");
    }

    #[test]
    fn only_grants_on_all_collections_of_all_databases_show_everything() {
        for all in [
            grant("*", "Global", "*", "All"),
            grant("*", "Collection", "*", "Query"),
            grant("*", "Collection", "*", "*"),
            grant("*", "Global", "*", "CollectionReadOnly"),
            grant("*", "Global", "*", "our_backup_group"),
        ] {
            assert!(sees_all(&user(&["reader"], vec![all.clone()]), "2.6.18"), "{all:?}");
            let elsewhere = api::GrantEntity { db_name: "default".to_owned(), ..all };
            assert!(!sees_all(&user(&["reader"], vec![elsewhere.clone()]), "2.6.18"), "{elsewhere:?}");
        }
        for less in [
            grant("*", "Collection", "items", "Query"),
            grant("*", "Global", "*", "CreateCollection"),
            grant("*", "Global", "*", "DatabaseAdmin"),
            grant("*", "Global", "*", "ClusterAdmin"),
            grant("*", "Global", "*", ""),
            grant("*", "User", "*", "SelectUser"),
        ] {
            assert!(!sees_all(&user(&["reader"], vec![less.clone()]), "2.6.18"), "{less:?}");
        }
    }

    #[test]
    fn groups_count_on_servers_that_count_them() {
        let reader = user(&["reader"], vec![grant("*", "Global", "*", "our_backup_group")]);
        for (version, counts) in [("v2.4.22", false), ("v2.5.9", false), ("v2.5.10", true), ("master-20260226-a", true)]
        {
            assert_eq!(sees_all(&reader, version), counts, "{version}");
        }
    }

    #[test]
    fn root_sees_everything_unless_its_roles_are_looked_at() {
        let mut root = User { name: "root", ..user(&[], Vec::new()) };
        assert!(!sees_all(&root, "2.6.18"));
        root.root = RootCheck::PassesUnchecked;
        assert!(sees_all(&root, "2.6.18"));
        root.grants = vec![grant("*", "User", "*", "SelectUser")];
        assert!(!sees_all(&root, "2.6.18"), "a grant may be why it passes");
    }

    #[test]
    fn the_line_that_hides_nothing_is_known() {
        assert!(!filters_lists("v2.3.5-lite"));
        for version in ["v2.3.10", "v2.4.22", "2.5.4-0.1.1_3.2", "2.6.18", "unheard of"] {
            assert!(filters_lists(version), "{version}");
        }
    }
}
