//! Users with authorization on, and what each may see and do.

use std::collections::BTreeSet;

use base64::{Engine, prelude::BASE64_STANDARD};
use milvus::proto::milvus as api;
use tonic::metadata::MetadataMap;

use crate::Line;

/// Any database, any object or any privilege.
const ANY: &str = "*";
/// `UserRoot`, `RoleAdmin` and `RolePublic` in `pkg/util/constant.go`.
const ROOT: &str = "root";
const ADMIN: &str = "admin";
const PUBLIC: &str = "public";
/// The level of collections: `GetDefaultPrivilegeGroupNames` in `pkg/util/paramtable/rbac_param.go`, 2.5.
const COLLECTION_GROUPS: [&str; 3] = ["CollectionReadOnly", "CollectionReadWrite", "CollectionAdmin"];

/// A user of a server with authorization on.
#[derive(Debug, Clone)]
pub struct User {
    /// The user's name.
    pub name: String,
    /// The password.
    pub password: String,
    /// The roles bound to the user, beside `public`.
    pub roles: Vec<Role>,
}

impl User {
    /// The user `root`, who may do everything.
    pub fn root() -> Self {
        Self { name: ROOT.to_owned(), password: "Milvus".to_owned(), roles: Vec::new() }
    }

    /// A user with one role of this name, that has these grants.
    pub fn with_role(name: &str, role: &str, grants: Vec<Grant>) -> Self {
        let role = Role { name: role.to_owned(), grants };
        Self { name: name.to_owned(), password: "secret".to_owned(), roles: vec![role] }
    }

    pub(crate) fn token(&self) -> String {
        format!("{}:{}", self.name, self.password)
    }
}

/// A role.
#[derive(Debug, Clone)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// The role's grants at first.
    pub grants: Vec<Grant>,
}

impl Role {
    pub(crate) fn entity(&self) -> api::RoleEntity {
        api::RoleEntity { name: self.name.clone(), ..Default::default() }
    }
}

/// A role's grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The database; `*` for all.
    pub database: String,
    /// The kind of object: `Global`, `Collection` or `User`.
    pub object: String,
    /// The object's name; `*` for all.
    pub name: String,
    /// The privilege, as the API names it.
    pub privilege: String,
}

impl Grant {
    /// A grant.
    pub fn of(database: &str, object: &str, name: &str, privilege: &str) -> Self {
        let [database, object, name, privilege] = [database, object, name, privilege].map(str::to_owned);
        Self { database, object, name, privilege }
    }

    /// Whether it lets do this (`ModelStr` in `internal/proxy/privilege_interceptor.go`): every privilege is let by `All`
    /// with any kind of object.
    fn lets(&self, asked: &Asked<'_>) -> bool {
        let fits = |granted: &str, asked: &str| granted == ANY || granted == asked;
        let is_all = self.object == "Global" && self.privilege == "All";
        let is_this =
            self.object == asked.object && fits(&self.name, asked.name) && fits(&self.privilege, asked.privilege);
        fits(&self.database, asked.database) && (is_all || is_this)
    }

    /// A role's grant, and the role.
    pub(crate) fn from_entity(entity: api::GrantEntity) -> (String, Self) {
        let privilege = entity.grantor.and_then(|grantor| grantor.privilege).unwrap_or_default().name;
        let object = entity.object.unwrap_or_default().name;
        let database = if entity.db_name.is_empty() { "default".to_owned() } else { entity.db_name };
        (entity.role.unwrap_or_default().name, Self { database, object, name: entity.object_name, privilege })
    }

    /// Whether the grant is of a built-in group of privileges for collections.
    pub(crate) fn is_group(&self) -> bool {
        COLLECTION_GROUPS.contains(&self.privilege.as_str())
    }

    fn entity(&self, role: &str) -> api::GrantEntity {
        let privilege = api::PrivilegeEntity { name: self.privilege.clone() };
        api::GrantEntity {
            role: Some(api::RoleEntity { name: role.to_owned(), ..Default::default() }),
            object: Some(api::ObjectEntity { name: self.object.clone() }),
            object_name: self.name.clone(),
            db_name: self.database.clone(),
            grantor: Some(api::GrantorEntity { privilege: Some(privilege), ..Default::default() }),
        }
    }
}

/// What a caller asks to do.
pub(crate) struct Asked<'a> {
    pub(crate) database: &'a str,
    pub(crate) object: &'a str,
    pub(crate) name: &'a str,
    pub(crate) privilege: &'a str,
}

/// The names that are listed for a user.
pub(crate) enum Visible {
    All,
    Only(BTreeSet<String>),
}

impl Visible {
    pub(crate) fn has(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(ANY) || names.contains(name),
        }
    }
}

/// The users of a server, and the grants of its roles.
#[derive(Debug, Clone, Default)]
pub(crate) struct Users {
    users: Option<Vec<User>>,
    /// All roles, whether users have them or not.
    pub(crate) roles: Vec<Role>,
}

impl Users {
    /// The users of a server with authorization on, with their roles.
    pub(crate) fn new(users: Vec<User>) -> Self {
        let roles = users.iter().flat_map(|user| user.roles.iter().cloned()).collect();
        Self { users: Some(users), roles }
    }

    fn grants_of<'a>(&'a self, user: &'a User) -> impl Iterator<Item = (&'a Role, &'a Grant)> {
        let is_theirs = |role: &&Role| user.roles.iter().any(|own| own.name == role.name);
        self.roles.iter().filter(is_theirs).flat_map(|role| role.grants.iter().map(move |grant| (role, grant)))
    }

    /// Moves the grants on a collection to another name, or drops them.
    pub(crate) fn move_grants(&mut self, database: &str, name: &str, to: Option<&str>) {
        let is_on = |grant: &Grant| grant.object == "Collection" && grant.database == database && grant.name == name;
        for role in &mut self.roles {
            match to {
                Some(to) => {
                    role.grants.iter_mut().filter(|grant| is_on(grant)).for_each(|grant| to.clone_into(&mut grant.name))
                }
                None => role.grants.retain(|grant| !is_on(grant)),
            }
        }
    }

    /// Users, roles and their grants but for those that every server has (`BackupRBAC` in
    /// `internal/metastore/kv/rootcoord/kv_catalog.go`).
    pub(crate) fn meta(&self) -> api::RbacMeta {
        let roles = || self.roles.iter().filter(|role| role.name != ADMIN && role.name != PUBLIC);
        let grants = roles().flat_map(|role| role.grants.iter().map(|grant| grant.entity(&role.name)));
        api::RbacMeta { roles: roles().map(Role::entity).collect(), grants: grants.collect(), ..Default::default() }
    }

    /// Gives a role a grant; returns whether the role exists.
    pub(crate) fn grant(&mut self, role: &str, grant: Grant) -> bool {
        let Some(role) = self.roles.iter_mut().find(|known| known.name == role) else { return false };
        if !role.grants.contains(&grant) {
            role.grants.push(grant);
        }
        true
    }

    /// The calling user; `None` on a server without authorization.
    pub(crate) fn caller(&self, metadata: &MetadataMap) -> Option<&User> {
        let token = metadata.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let token = BASE64_STANDARD.decode(token).unwrap_or_default();
        self.users.iter().flatten().find(|user| user.token().as_bytes() == token)
    }

    /// Whether the caller may do this (`PrivilegeInterceptor` in `internal/proxy/privilege_interceptor.go`, 2.3 to 2.6).
    /// What everyone may: describe collections and indexes (`initPublicRolePrivilege`, and in 2.3 `initRbac`, in
    /// `internal/rootcoord/root_coord.go`), and ask about themselves (`isCurUserObject`).
    #[expect(clippy::result_large_err, reason = "the type that the server's trait wants")]
    pub(crate) fn permit(&self, line: Line, metadata: &MetadataMap, asked: &Asked<'_>) -> Result<(), tonic::Status> {
        let Some(user) = self.caller(metadata) else { return Ok(()) };
        let is_admin = user.name == ROOT || user.roles.iter().any(|role| role.name == ADMIN);
        let is_for_all = matches!(asked.privilege, "DescribeCollection" | "IndexDetail" | "ListAliases")
            || (asked.object == "User" && asked.name == user.name);
        if is_admin || is_for_all || self.grants_of(user).any(|(_, grant)| grant.lets(asked)) {
            return Ok(());
        }
        let Asked { database, privilege, .. } = asked;
        let place = if line >= Line::V2_4 { format!(" in the `{database}` database") } else { String::new() };
        Err(tonic::Status::permission_denied(format!("Privilege{privilege}: permission deny to {}{place}", user.name)))
    }

    /// The databases that are listed for the caller (`getCurrentUserVisibleDatabases` in
    /// `internal/rootcoord/root_coord.go`, 2.5; `Execute` in `list_db_task.go`, 2.4).
    pub(crate) fn databases(&self, line: Line, metadata: &MetadataMap) -> Visible {
        self.visible(line, metadata, |grant, names| {
            names.insert(grant.database.clone());
        })
    }

    /// The collections of a database that are listed for the caller (`getCurrentUserVisibleCollections`, likewise).
    pub(crate) fn collections(&self, line: Line, metadata: &MetadataMap, database: &str) -> Visible {
        self.visible(line, metadata, |grant, names| {
            let is_group = || line.lists_by_groups() && grant.is_group();
            if grant.database != database && grant.database != ANY {
                return;
            }
            if grant.object == "Global" && grant.privilege == "All" {
                names.insert(ANY.to_owned());
            } else if grant.object == "Collection" || is_group() {
                names.insert(grant.name.clone());
            }
        })
    }

    fn visible(&self, line: Line, metadata: &MetadataMap, note: impl Fn(&Grant, &mut BTreeSet<String>)) -> Visible {
        let Some(user) = self.caller(metadata).filter(|_| line.filters_lists()) else { return Visible::All };
        if user.name == ROOT || user.roles.iter().any(|role| role.name == ADMIN) {
            return Visible::All;
        }
        let mut names = BTreeSet::new();
        for (_, grant) in self.grants_of(user).filter(|(role, _)| role.name != PUBLIC) {
            note(grant, &mut names);
        }
        Visible::Only(names)
    }

    /// Users with their roles: this one, if there is such a user, or all of them (`ListUser` in
    /// `internal/metastore/kv/rootcoord/kv_catalog.go`, and `SelectUser` in `internal/rootcoord/root_coord.go`).
    pub(crate) fn select(&self, name: Option<&str>) -> Vec<api::UserResult> {
        let users = self.users.iter().flatten().filter(|user| name.is_none_or(|name| user.name == name));
        users
            .map(|user| api::UserResult {
                user: Some(api::UserEntity { name: user.name.clone() }),
                roles: user.roles.iter().map(Role::entity).collect(),
                ..Default::default()
            })
            .collect()
    }

    /// A role's grants in a database, or in all (`ListGrant` in `internal/metastore/kv/rootcoord/kv_catalog.go`; before
    /// 2.4, `*` stands for no more than the grants in `*`).
    pub(crate) fn grants(&self, line: Line, role: &str, database: &str) -> Vec<api::GrantEntity> {
        let is_asked = |grant: &&Grant| {
            grant.database == database || grant.database == ANY || (database == ANY && line >= Line::V2_4)
        };
        let roles = self.roles.iter().filter(|known| known.name == role);
        let mut grants: Vec<&Grant> = roles.flat_map(|role| &role.grants).collect();
        grants.retain(|grant| is_asked(grant));
        grants.into_iter().map(|grant| grant.entity(role)).collect()
    }

    /// Whether a role is the caller's own: then everyone may ask for its grants (`isSelectMyRoleGrants` in
    /// `internal/proxy/privilege_interceptor.go`, 2.4 to 2.6).
    pub(crate) fn is_own_role(&self, line: Line, metadata: &MetadataMap, role: &str) -> bool {
        let own = |user: &User| user.roles.iter().any(|own| own.name == role) || role == PUBLIC;
        line >= Line::V2_4 && self.caller(metadata).is_some_and(own)
    }
}
