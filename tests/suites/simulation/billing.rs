//! What is billed, against a replay of what happened to every object.
//!
//! The replay doesn't use accounts, only the times at which backups began and ceased to reference objects. A change
//! counts in the hour that the worker recorded with it, which must be the clock's hour or one that has just ended.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use milvault_harness::{Random, exact_cost, locked};
use milvault_model::{Account, Backup, BackupId, BackupState, Hour, InstanceId, Prices, Time};
use milvault_ports::{Catalog, PageRequest, Write};

use crate::{
    audit::Audit,
    format,
    history::{History, Invocation},
    ports::at_once,
    rules::Rule,
};

/// The longest time that a commit takes to arrive: its hour may have ended meanwhile.
const SETTLING: TimeDelta = TimeDelta::minutes(5);

/// What happened to objects.
#[derive(Default)]
pub(crate) struct Bill {
    events: Vec<Event>,
    /// The objects that each published backup still references, by key, with their sizes.
    left: BTreeMap<BackupId, BTreeMap<String, u64>>,
    /// The first hour with something to meter.
    first: Option<Hour>,
}

struct Event {
    hour: Hour,
    /// Object and size.
    object: (String, u64),
    backup: BackupId,
    kind: Kind,
}

#[derive(PartialEq)]
enum Kind {
    Referenced,
    LetGo,
}

/// The bytes of each hour and backup, and their cost.
type Records = BTreeMap<(Hour, BackupId), (i64, Option<String>)>;

/// The price of a gibibyte and hour, in millionths: before midnight and after it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tariff {
    before: Option<u128>,
    after: u128,
    midnight: Hour,
}

impl Tariff {
    pub(crate) fn draw(random: &mut Random, now: Time) -> Self {
        let before = random.permille(700).then(|| u128::from(random.below(1_000_000)));
        let midnight = Hour::first_of((now + TimeDelta::days(1)).date_naive());
        Self { before, after: random.below(2_000).into(), midnight }
    }

    pub(crate) fn prices(self) -> Prices {
        let price = |from: Hour, millionths: u128| {
            let per_hour = format!("{}.{:06}", millionths / 1_000_000, millionths % 1_000_000);
            serde_json::json!({
                "region": "eu-west-1", "from": from.day(), "currency": "EUR",
                "storageGibHour": "9", "snapshotGibHour": per_hour,
            })
        };
        let before = self.before.map(|millionths| price(Hour::containing(Time::UNIX_EPOCH), millionths));
        let list: Vec<_> = before.into_iter().chain([price(self.midnight, self.after)]).collect();
        serde_json::from_value(list.into()).expect("prices")
    }

    fn cost(self, hour: Hour, bytes: i64) -> Option<String> {
        let millionths = if hour < self.midnight { self.before? } else { self.after };
        let bytes = u128::try_from(bytes).expect("bytes are stored or not");
        Some(exact_cost(bytes, millionths))
    }
}

impl Bill {
    fn note(&mut self, hour: Hour, backup: &BackupId, kind: Kind, objects: impl IntoIterator<Item = (String, u64)>) {
        let events = objects.into_iter().map(|object| {
            let kind = if kind == Kind::Referenced { Kind::Referenced } else { Kind::LetGo };
            Event { hour, object, backup: backup.clone(), kind }
        });
        self.events.extend(events);
        self.first = self.first.or(Some(hour));
    }

    /// The records of every hour before this one.
    fn replay(&self, until: Hour, tariff: Tariff) -> Records {
        struct Life {
            size: u64,
            needed_by: BTreeSet<BackupId>,
            billed: Option<Hour>,
        }
        let mut lives: BTreeMap<&str, Life> = BTreeMap::new();
        let mut bytes: BTreeMap<(Hour, BackupId), i64> = BTreeMap::new();
        let mut bill = |life: &mut Life, hour: Hour| {
            if life.billed != Some(hour)
                && let Some(oldest) = life.needed_by.first()
            {
                *bytes.entry((hour, oldest.clone())).or_default() += life.size.cast_signed();
                life.billed = Some(hour);
            }
        };
        let mut events = self.events.iter().peekable();
        let Some(mut hour) = self.first else { return Records::new() };
        while hour < until {
            lives.values_mut().for_each(|life| bill(life, hour));
            while let Some(event) = events.next_if(|event| event.hour <= hour) {
                let (key, size) = &event.object;
                let life =
                    lives.entry(key).or_insert_with(|| Life { size: *size, needed_by: BTreeSet::new(), billed: None });
                match event.kind {
                    Kind::Referenced => life.needed_by.insert(event.backup.clone()),
                    Kind::LetGo => life.needed_by.remove(&event.backup),
                };
                bill(life, hour);
                // The object is removed; stored again, it is another object.
                if life.needed_by.is_empty() {
                    lives.remove(key.as_str());
                }
            }
            hour = hour.next();
        }
        let cost = |hour, bytes| (bytes, tariff.cost(hour, bytes));
        bytes.into_iter().map(|((hour, backup), bytes)| ((hour, backup), cost(hour, bytes))).collect()
    }
}

impl Audit {
    /// Records which objects a commit begins to reference and which it lets go.
    pub(crate) fn bills(&self, writes: &[Write]) {
        for backup in writes.iter().filter_map(|write| match write {
            Write::Backup(backup, _) => Some(backup),
            _ => None,
        }) {
            let mut bill = locked(&self.bill);
            let of_backup = bill.left.get(&backup.id);
            let (kind, objects) = match &backup.state {
                BackupState::Available(_) if of_backup.is_none() => (Kind::Referenced, self.objects_of(backup)),
                BackupState::Deleting { after: Some(after), .. } => {
                    let up_to = of_backup.into_iter().flatten().take_while(|(key, _)| key.as_str() <= after.as_str());
                    (Kind::LetGo, up_to.map(|(key, size)| (key.clone(), *size)).collect())
                }
                BackupState::Deleted { .. } => (Kind::LetGo, of_backup.cloned().unwrap_or_default()),
                _ => continue,
            };
            let left = bill.left.entry(backup.id.clone()).or_default();
            match kind {
                Kind::Referenced => left.clone_from(&objects),
                Kind::LetGo => left.retain(|key, _| !objects.contains_key(key)),
            }
            let hour = self.hour_of(writes);
            let objects = objects.into_iter().map(|(key, size)| (format!("{}/{key}", backup.instance_id), size));
            bill.note(hour, &backup.id, kind, objects);
        }
    }

    /// By key, with their sizes.
    fn objects_of(&self, backup: &Backup) -> BTreeMap<String, u64> {
        let folder = format::folder(backup.instance_id.as_str(), backup.id.as_str());
        // A snapshot that can't be read breaks another rule.
        let entries = format::read(&folder, |key| self.get(key)).map(|stored| stored.entries).unwrap_or_default();
        entries.into_iter().map(|entry| (entry.key, entry.size)).collect()
    }

    /// The hour in which a commit counts, according to its accounts.
    fn hour_of(&self, writes: &[Write]) -> Hour {
        let now = self.world.now();
        let accounts = writes.iter().filter_map(|write| match write {
            Write::Account(account, _) => Some(account.open_hour()),
            _ => None,
        });
        let hour = accounts.max().unwrap_or(Hour::containing(now));
        if hour > Hour::containing(now) || hour < Hour::containing(now - SETTLING) {
            self.world.violate(Rule::Billed, format!("a change of {now} counts in {hour}"));
        }
        hour
    }

    /// Checks that every finished hour is metered as the replay says.
    fn is_billed(&self, instances: &[InstanceId], tariff: Tariff) {
        let until = Hour::containing(self.world.now() - SETTLING);
        let bill = locked(&self.bill);
        let expected = bill.replay(until, tariff);
        let mut found = Records::new();
        let mut hour = bill.first.unwrap_or(until);
        while hour <= Hour::containing(self.world.now()) {
            let region = "eu-west-1".parse().expect("a region");
            let all = PageRequest { after: None, limit: 10_000 };
            let records = at_once(self.catalog.usage(&region, hour, None, all)).expect("it answers").items;
            found.extend(records.into_iter().map(|record| {
                let cost = record.charge.map(|charge| charge.cost.to_string());
                ((record.hour, record.backup_id), (record.byte_hours, cost))
            }));
            hour = hour.next();
        }
        if found != expected {
            let differs = |key: &&(Hour, BackupId)| found.get(key) != expected.get(key);
            let key = found.keys().chain(expected.keys()).find(differs);
            let (metered, right) = key.map(|key| (found.get(key), expected.get(key))).unwrap_or_default();
            self.world.violate(Rule::Billed, format!("of {key:?}, {metered:?} is metered, not {right:?}"));
        }
        for account in self.accounts() {
            let is_of_one = instances.contains(&account.instance_id);
            let is_over = account.is_settled() && bill.left.get(&account.backup_id).is_none_or(BTreeMap::is_empty);
            let is_due = account.clone().meter(until).is_some();
            if is_due || is_over || !is_of_one {
                self.world.violate(Rule::Billed, format!("{account:?} is left"));
            }
        }
    }

    fn accounts(&self) -> Vec<Account> {
        let (region, all) = ("eu-west-1".parse().expect("a region"), PageRequest { after: None, limit: 10_000 });
        let found = at_once(self.catalog.accounts(&region, all)).expect("it answers");
        found.items.into_iter().map(|found| found.value).collect()
    }
}

impl History {
    /// Lets the hour end and the meter run until nothing is left to meter.
    pub(crate) fn come_to_the_bill(&mut self) {
        let now = self.world.now();
        self.advance(Hour::containing(now).next().start() + TimeDelta::minutes(10) - now);
        for _ in 0..5 {
            self.world.invoke(Invocation::Meter);
            self.advance(TimeDelta::minutes(1));
        }
        self.audit.is_billed(&self.instances, self.tariff);
    }
}
