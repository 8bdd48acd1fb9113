//! What belongs to a collection's name: aliases and roles' grants. A restore gives the name to another collection, and what
//! belongs to the name stays with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use milvault_harness::locked;
use milvault_model::{
    CollectionName, CollectionRestore, CollectionStage, Grant, InstanceId, Restore, RestorePhase, RestoreState,
    RestoreStatus, is_restore_name,
};

use crate::{
    audit::Audit,
    format::Stored,
    rules::Rule,
    server::{Server, Wanted},
};

/// The database that all collections are in.
const DATABASE: &str = "default";

/// What a role may do with a collection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Right {
    pub(crate) role: &'static str,
    pub(crate) name: String,
    pub(crate) privilege: &'static str,
}

impl Right {
    pub(crate) const ROLES: [&str; 2] = ["reader", "writer"];
    pub(crate) const PRIVILEGES: [&str; 2] = ["Query", "Insert"];

    /// Everything that anybody may do with a collection.
    pub(crate) fn all_on(name: &CollectionName) -> impl Iterator<Item = Self> {
        Self::ROLES.into_iter().flat_map(move |role| {
            Self::PRIVILEGES.into_iter().map(move |privilege| Self { role, name: name.collection.clone(), privilege })
        })
    }

    pub(crate) fn grant(&self) -> Grant {
        Grant {
            role: self.role.to_owned(),
            database: DATABASE.to_owned(),
            object: "Collection".to_owned(),
            name: self.name.clone(),
            privilege: self.privilege.to_owned(),
        }
    }

    fn new(role: &str, name: &str, privilege: &str) -> Self {
        let known = |all: [&'static str; 2], sought| all.into_iter().find(|one| *one == sought).expect("a known one");
        Self { role: known(Self::ROLES, role), name: name.to_owned(), privilege: known(Self::PRIVILEGES, privilege) }
    }
}

impl From<&Grant> for Right {
    fn from(grant: &Grant) -> Self {
        Self::new(&grant.role, &grant.name, &grant.privilege)
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.grant().fmt(f)
    }
}

/// What roles may do, as a server tells it.
pub(crate) fn written(rights: &[Right]) -> String {
    rights.iter().map(|right| format!("{} {} {}\n", right.role, right.name, right.privilege)).collect()
}

/// The reverse.
pub(crate) fn rights_in(written: &str) -> Vec<Right> {
    let right = |line: &str| match line.split(' ').collect::<Vec<_>>()[..] {
        [role, name, privilege] => Right::new(role, name, privilege),
        _ => panic!("{line} is no grant"),
    };
    written.lines().map(right).collect()
}

/// What belonged to each name at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Belongings {
    /// The number of the last change by a user.
    pub(crate) change: u64,
    /// The name of each alias's collection.
    pub(crate) aliases: BTreeMap<String, CollectionName>,
    pub(crate) rights: BTreeSet<Right>,
}

impl Belongings {
    /// The same without what belongs to collections that restores made for themselves.
    fn of_users(self) -> Self {
        let rights = self.rights.into_iter().filter(|right| !is_restore_name(&right.name)).collect();
        Self { rights, ..self }
    }
}

/// What belonged to each name according to a backup.
#[derive(Debug, Clone)]
pub(crate) struct Backed {
    /// Each collection's aliases.
    aliases: BTreeMap<String, BTreeSet<String>>,
    rights: Vec<Right>,
}

impl Backed {
    pub(crate) fn read(stored: &Stored) -> Self {
        let aliases = stored.collections.iter().map(|captured| (captured.name.clone(), captured.aliases.clone()));
        Self { aliases: aliases.collect(), rights: stored.access_control.as_deref().map(rights_in).unwrap_or_default() }
    }
}

/// What an alias may stand for once a restore is over.
#[derive(Debug)]
enum Due {
    /// One of these collections, or nothing.
    OneOf(BTreeSet<Option<CollectionName>>),
    /// Any collection of a user, or nothing.
    Open,
}

impl Due {
    fn admits(&self, found: Option<&CollectionName>) -> bool {
        match self {
            _ if found.is_some_and(|name| is_restore_name(&name.collection)) => false,
            Self::OneOf(due) => due.contains(&found.cloned()),
            Self::Open => true,
        }
    }
}

impl Audit {
    /// A restore may begin its swap.
    pub(crate) fn swap_begins(&self, restore: &Restore) {
        let RestoreState::Running(run) = &restore.state else { return };
        let mut seen = locked(&self.seen);
        if run.phase != RestorePhase::Swap || seen.swaps.contains_key(&restore.id) {
            return;
        }
        seen.swaps.insert(restore.id.clone(), self.world.now());
        drop(seen);
        if let Some(server) = locked(&self.servers).get(&restore.instance_id) {
            locked(&self.seen).before.insert(restore.id.clone(), server.belongings());
        }
    }

    /// A restore changed its status.
    pub(crate) fn belongings_on(&self, restore: &Restore, before: Option<RestoreStatus>) {
        let mut servers = locked(&self.servers);
        let Some(server) = servers.get_mut(&restore.instance_id) else { return };
        match (before, restore.state.status()) {
            (None, _) => drop(locked(&self.seen).before.insert(restore.id.clone(), server.belongings())),
            (Some(RestoreStatus::Completed), RestoreStatus::Running) => {
                locked(&self.seen).before_rollback.insert(restore.id.clone(), server.belongings());
            }
            (_, RestoreStatus::Pending | RestoreStatus::Running) => {}
            _ => {
                let lines = self.lines(&restore.id);
                let alias = self.is_alias_lost(restore, &lines, server).map(|what| (Rule::Aliases, what));
                let right = self.is_right_lost(restore, &lines, server).map(|what| (Rule::Grants, what));
                let seen = locked(&self.seen);
                for before in seen.before.get(&restore.id).into_iter().chain(seen.before_rollback.get(&restore.id)) {
                    server.takes_over(before);
                }
                drop(seen);
                drop(servers);
                for (rule, what) in alias.into_iter().chain(right) {
                    self.world.violate(rule, format!("{} is {:?}, but {what}", restore.id, restore.state.status()));
                }
            }
        }
    }

    /// The first alias that stands for a wrong collection.
    fn is_alias_lost(&self, restore: &Restore, lines: &[CollectionRestore], server: &Server) -> Option<String> {
        if is_in_the_way(restore) {
            return None;
        }
        let seen = locked(&self.seen);
        let (now, before) = (server.belongings(), seen.before.get(&restore.id)?);
        let backed = seen.belongings.get(&restore.backup_id);
        let rolled_back = seen.before_rollback.get(&restore.id);
        // A collection that was given up leaves the live one under its name, and an alias that would have moved to it
        // stays where it was.
        let owners = |alias: &String| -> BTreeSet<Option<CollectionName>> {
            let is_own = |line: &&CollectionRestore| {
                let of_source = backed.and_then(|backed| backed.aliases.get(&line.source.to_string()));
                line.failure.is_none()
                    && line.source.collection == line.target.collection
                    && of_source.is_some_and(|all| all.contains(alias))
            };
            lines.iter().filter(is_own).map(|line| Some(line.target.clone())).collect()
        };
        let known = before.aliases.keys().chain(now.aliases.keys());
        let known: BTreeSet<&String> = known.chain(backed.iter().flat_map(|b| b.aliases.values().flatten())).collect();
        known.into_iter().find_map(|alias| {
            let (held, owners) = (before.aliases.get(alias).cloned(), owners(alias));
            let is_left = |since: &Belongings| server.changes.leave_alias(alias, since.change);
            let due = match (rolled_back, restore.state.status()) {
                (None, RestoreStatus::Completed) if is_left(before) => match owners.is_empty() {
                    true => Due::OneOf([held].into()),
                    false => Due::OneOf(owners),
                },
                (_, RestoreStatus::Failed | RestoreStatus::Cancelled | RestoreStatus::RolledBack)
                    if is_left(before) =>
                {
                    Due::OneOf([held].into())
                }
                (Some(rolled_back), RestoreStatus::RolledBack) if is_left(rolled_back) && owners.is_empty() => {
                    match rolled_back.aliases.get(alias) {
                        // A collection that users dropped since the swap may be back.
                        None => Due::Open,
                        // The alias may have gone with a collection that had no predecessor.
                        Some(last) if server.id_of(last).is_none() => Due::Open,
                        Some(last) => Due::OneOf([held, Some(last.clone())].into()),
                    }
                }
                _ => Due::Open,
            };
            let found = now.aliases.get(alias);
            let is_about = |warning: &&String| warning.contains(&format!("alias {DATABASE}.{alias} "));
            let mut told = restore.warnings.iter().filter(is_about);
            if is_left(before) && told.clone().any(|warning| warning.contains("was moved by another client")) {
                return Some(format!("alias {alias} is said to have been moved"));
            }
            // A user who reads the warning that it was moved can rely on it.
            let is_so = |warning: &String| {
                let (_, to) = warning.split_once(" and now points to ").unwrap_or_default();
                to.is_empty() || found.is_some_and(|found| found.to_string() == to)
            };
            let is_over = rolled_back.is_none() && restore.state.status() == RestoreStatus::Completed;
            if let Some(wrong) = told.find(|warning| is_over && is_left(before) && !is_so(warning)) {
                return Some(format!("alias {alias} stands for {found:?}, and it is told: {wrong}"));
            }
            (!due.admits(found)).then(|| format!("alias {alias} stands for {found:?}, and not for {due:?}"))
        })
    }

    /// The first grant that is missing.
    fn is_right_lost(&self, restore: &Restore, lines: &[CollectionRestore], server: &Server) -> Option<String> {
        let seen = locked(&self.seen);
        let (now, before) = (server.belongings(), seen.before.get(&restore.id)?);
        let mut wanted = server.changes.wanted(before);
        let is_first =
            restore.state.status() == RestoreStatus::Completed && !seen.before_rollback.contains_key(&restore.id);
        if is_first && restore.instance_id == restore.source_instance_id {
            // For a collection that was gone, the backup's grants.
            let is_back = |line: &&CollectionRestore| {
                let was_there = |swap: &milvault_model::Swap| swap.live_id.is_some();
                let is_new = matches!(&line.stage, CollectionStage::Swapped(swap) if !was_there(swap));
                is_new && line.source == line.target
            };
            for line in lines.iter().filter(is_back) {
                let backed = seen.belongings.get(&restore.backup_id).into_iter().flat_map(|backed| &backed.rights);
                let own = backed.filter(|right| right.name == line.target.collection && server.has_role(right.role));
                let is_left = |right: &&Right| server.changes.leave_right(right, before.change);
                wanted.extend(own.filter(is_left).cloned());
            }
        }
        // Grants on a collection that had no predecessor go with it.
        let is_there = |right: &Right| server.id_of(&CollectionName::new(DATABASE, &right.name)).is_some();
        let may_go = |right: &Right| !before.rights.contains(right) && !is_there(right);
        let is_told = |right: &Right| {
            let is_named =
                |warning: &String| warning.contains(&right.to_string()) || warning.contains("the grants of role");
            restore.warnings.iter().any(is_named)
        };
        // A name that another restore made ends with that restore's rollback or clean-up: a grant on it goes where its
        // collection goes.
        let is_others = |right: &Right| is_restore_name(&right.name) && !right.name.ends_with(&restore.id.short());
        let is_excused = |right: &Right| may_go(right) || is_told(right) || is_others(right);
        let lost = wanted.into_iter().find(|right| !now.rights.contains(right) && !is_excused(right))?;
        Some(format!("{lost} is lost"))
    }

    /// Names have what users believe to belong to them.
    pub(crate) fn look_at_belongings(&self) {
        let instances: Vec<InstanceId> = locked(&self.servers).keys().cloned().collect();
        for instance in instances.into_iter().filter(|instance| self.at_work(instance).is_none()) {
            let servers = locked(&self.servers);
            let Some(server) = servers.get(&instance) else { continue };
            let (now, believed) = (server.belongings(), &server.believed_belongings);
            let lost = believed.rights.iter().find(|right| !now.rights.contains(right));
            let wrong = match lost {
                Some(lost) => Some((Rule::Grants, format!("{lost} is lost"))),
                None if now.aliases != believed.aliases => {
                    Some((Rule::Aliases, format!("aliases are {:?}, not {:?}", now.aliases, believed.aliases)))
                }
                None => None,
            };
            drop(servers);
            if let Some((rule, what)) = wrong {
                self.world.violate(rule, format!("of {instance}, {what}"));
            }
        }
    }
}

impl Server {
    /// After a restore, its result is what users expect and what other restores find.
    fn takes_over(&mut self, before: &Belongings) {
        let now = self.belongings();
        let all: BTreeSet<&String> = before.aliases.keys().chain(now.aliases.keys()).collect();
        for alias in all.into_iter().filter(|alias| before.aliases.get(*alias) != now.aliases.get(*alias)) {
            self.changes.of_alias(alias);
        }
        // A grant that it couldn't give back was judged here and named in a warning; no other restore can give it back.
        let lost = before.rights.difference(&now.rights).filter(|right| !is_restore_name(&right.name));
        lost.for_each(|right| self.changes.of_right(right.clone(), Wanted::Open));
        self.believe_belongings();
    }

    /// Users look at what belongs to names, and believe it.
    pub(crate) fn believe_belongings(&mut self) {
        self.believed_belongings = self.belongings().of_users();
    }
}

/// Whether a user's collection kept another one from being put back.
fn is_in_the_way(restore: &Restore) -> bool {
    match &restore.state {
        RestoreState::Failed { failure, .. } => crate::restores::names_what_is_in_the_way(&failure.message),
        _ => false,
    }
}
