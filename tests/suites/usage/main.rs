//! Billing, compared with a model without accounts that replays every object's life second by second.

#![allow(clippy::unwrap_used, reason = "a test: what fails here is what it is for")]

mod freshness;
mod ledger;
mod lines;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta};
use milvault_harness::{Random, exact_cost, seeds};
use milvault_model::{Account, BackupId, BackupKind, Hour, Metered, Prices, Region, Time};

const SEEDS: u64 = 100;
/// The histories begin three hours before midnight, so that prices change in them.
const BEGIN: &str = "2026-01-31T21:00:00Z";
const HOURS: u64 = 8;
const SECONDS: u64 = HOURS * 3600;

/// The new owner of a deleted backup's objects.
#[derive(Clone, Copy)]
enum Heir {
    Oldest,
    /// A wrong rule, which has to be caught.
    Youngest,
    /// A wrong rule, which has to be caught.
    Nobody,
}

type Records = BTreeMap<(Hour, BackupId), (i64, Option<String>)>;

/// An object, with the living backups that reference it; ids sort by age.
struct Object {
    size: u64,
    owner: Option<BackupId>,
    needed_by: BTreeSet<BackupId>,
}

/// A change in whether a backup references an object.
struct Event {
    second: u64,
    object: usize,
    backup: BackupId,
    kind: Kind,
}

#[derive(PartialEq)]
enum Kind {
    Referenced,
    LetGo,
}

struct History {
    random: Random,
    heir: Heir,
    second: u64,
    region: Region,
    objects: Vec<Object>,
    accounts: BTreeMap<BackupId, Account>,
    /// The backup that is being deleted, with its objects that are still to be let go.
    deleting: Option<(BackupId, Vec<usize>)>,
    events: Vec<Event>,
    records: Records,
    prices: Prices,
}

fn begin() -> Time {
    BEGIN.parse().unwrap()
}

fn time(second: u64) -> Time {
    begin() + TimeDelta::seconds(i64::try_from(second).unwrap())
}

/// Prices in millionths for a gibibyte and hour, before midnight and after it; `None`: no price in the first hours.
fn prices(before: Option<u128>, after: u128) -> Prices {
    let text = |millionths: u128| format!("{}.{:06}", millionths / 1_000_000, millionths % 1_000_000);
    let price = |from: &str, millionths| serde_json::json!({"region": "eu-west-1", "from": from, "currency": "EUR", "storageGibHour": text(millionths)});
    let list: Vec<_> = before.map(|p| price("2026-01-01", p)).into_iter().chain([price("2026-02-01", after)]).collect();
    serde_json::from_value(list.into()).unwrap()
}

impl History {
    fn now(&self) -> Hour {
        Hour::containing(time(self.second))
    }

    fn living(&self) -> Vec<BackupId> {
        let deleting = self.deleting.as_ref().map(|(backup, _)| backup);
        let of_objects: BTreeSet<&BackupId> = self.objects.iter().flat_map(|object| &object.needed_by).collect();
        of_objects.into_iter().filter(|backup| Some(*backup) != deleting).cloned().collect()
    }

    fn publish(&mut self, number: usize) {
        let backup: BackupId = format!("bk-{:026}", number).parse().unwrap();
        let mut stored = 0;
        let mut references = Vec::new();
        for (index, object) in self.objects.iter().enumerate() {
            // This includes objects that only a backup in deletion still has.
            if !object.needed_by.is_empty() && self.random.permille(600) {
                references.push(index);
            }
        }
        for _ in 0..self.random.between(1, 4) {
            let size = self.random.between(1, 1_000_000);
            stored += size;
            references.push(self.objects.len());
            self.objects.push(Object { size, owner: Some(backup.clone()), needed_by: BTreeSet::new() });
        }
        let logical = references.iter().map(|index| self.objects[*index].size).sum();
        for object in references {
            self.objects[object].needed_by.insert(backup.clone());
            self.events.push(Event { second: self.second, object, backup: backup.clone(), kind: Kind::Referenced });
        }
        let instance = "orders".parse().unwrap();
        let begins = (self.now(), stored);
        let account =
            Account::open(self.region.clone(), (instance, backup.clone()), BackupKind::Manual, logical, begins);
        self.accounts.insert(backup, account);
    }

    /// Begins or continues to delete a backup, a few objects at a time.
    fn delete(&mut self) {
        let (backup, mut left) = match self.deleting.take() {
            Some(deleting) => deleting,
            None => {
                let living = self.living();
                let Some(backup) = self.random.pick(&living).cloned() else { return };
                let of_it = |index: &usize| self.objects[*index].needed_by.contains(&backup);
                (backup.clone(), (0..self.objects.len()).filter(of_it).collect())
            }
        };
        let count = usize::try_from(self.random.between(1, 5)).unwrap().min(left.len());
        let mut lost = 0;
        let mut shares: BTreeMap<BackupId, u64> = BTreeMap::new();
        for index in left.drain(..count) {
            let object = &mut self.objects[index];
            object.needed_by.remove(&backup);
            self.events.push(Event { second: self.second, object: index, backup: backup.clone(), kind: Kind::LetGo });
            if object.owner.as_ref() != Some(&backup) {
                continue;
            }
            lost += object.size;
            object.owner = match self.heir {
                Heir::Oldest => object.needed_by.first().cloned(),
                Heir::Youngest => object.needed_by.last().cloned(),
                Heir::Nobody => None,
            };
            if let Some(heir) = &object.owner {
                *shares.entry(heir.clone()).or_default() += object.size;
            }
        }
        let accounts = shares.keys().chain([&backup]).map(|id| self.accounts[id].open_hour());
        let hour = accounts.chain([self.now()]).max().unwrap();
        self.accounts.get_mut(&backup).unwrap().lose(hour, lost).unwrap();
        for (heir, bytes) in shares {
            self.accounts.get_mut(&heir).unwrap().inherit(hour, bytes).unwrap();
        }
        if !left.is_empty() {
            self.deleting = Some((backup, left));
        }
    }

    /// Meters a share of the accounts, some of them twice.
    fn meter(&mut self, share: u64) {
        let end = self.now();
        for (backup, account) in &mut self.accounts {
            if !self.random.permille(share) {
                continue;
            }
            let repeated = self.random.permille(300).then(|| account.clone());
            for mut run in repeated.into_iter().map(Run::Again).chain([Run::First(account)]) {
                while let Some(Metered { hour, byte_hours }) = run.account().meter(end) {
                    let cost = self.prices.charge(&self.region, Metered { hour, byte_hours });
                    let record = (byte_hours, cost.map(|charge| charge.cost.to_string()));
                    let there = self.records.entry((hour, backup.clone())).or_insert_with(|| record.clone());
                    assert_eq!(*there, record, "a metered hour changed");
                }
            }
        }
    }

    fn attributed(&self) -> u64 {
        self.accounts.values().map(Account::bytes).sum()
    }

    fn stored(&self) -> u64 {
        self.objects.iter().filter(|object| !object.needed_by.is_empty()).map(|object| object.size).sum()
    }
}

/// A run of the meter over an account; a repeated run begins with the account as it was before.
enum Run<'a> {
    First(&'a mut Account),
    Again(Account),
}

impl Run<'_> {
    fn account(&mut self) -> &mut Account {
        match self {
            Self::First(account) => account,
            Self::Again(account) => account,
        }
    }
}

/// The records that a replay gives: at each second, an object is billed to the oldest backup that needs it.
fn replay(history: &History, millionths: impl Fn(Hour) -> Option<u128>) -> Records {
    struct Life {
        needed_by: BTreeSet<BackupId>,
        billed: Option<Hour>,
    }
    let mut lives: Vec<Life> = Vec::new();
    lives.resize_with(history.objects.len(), || Life { needed_by: BTreeSet::new(), billed: None });
    let mut bytes: BTreeMap<(Hour, BackupId), i64> = BTreeMap::new();
    let mut bill = |object: usize, life: &mut Life, hour: Hour| {
        if life.billed != Some(hour)
            && let Some(oldest) = life.needed_by.first()
        {
            *bytes.entry((hour, oldest.clone())).or_default() += history.objects[object].size.cast_signed();
            life.billed = Some(hour);
        }
    };
    let mut events = history.events.iter().peekable();
    for second in 0..SECONDS {
        let hour = Hour::containing(time(second));
        for (object, life) in lives.iter_mut().enumerate() {
            bill(object, life, hour);
        }
        while let Some(event) = events.next_if(|event| event.second == second) {
            let life = &mut lives[event.object];
            match event.kind {
                Kind::Referenced => life.needed_by.insert(event.backup.clone()),
                Kind::LetGo => life.needed_by.remove(&event.backup),
            };
            bill(event.object, life, hour);
        }
    }
    let cost = |hour, bytes: i64| {
        let bytes = u128::try_from(bytes).unwrap();
        millionths(hour).map(|price| exact_cost(bytes, price))
    };
    bytes.into_iter().map(|((hour, backup), bytes)| ((hour, backup), (bytes, cost(hour, bytes)))).collect()
}

/// Runs one history; returns the recorded and the expected records.
fn run(seed: u64, heir: Heir) -> (Records, Records) {
    let mut random = Random::new(seed);
    let (before, after) = (random.permille(700).then(|| u128::from(random.below(1_000_000))), 31);
    let mut history = History {
        second: 0,
        heir,
        region: "eu-west-1".parse().unwrap(),
        objects: Vec::new(),
        accounts: BTreeMap::new(),
        deleting: None,
        events: Vec::new(),
        records: Records::new(),
        prices: prices(before, after),
        random,
    };
    let mut backups = 0;
    // The last hour is left for the meter.
    while history.second < SECONDS - 3600 {
        match history.random.below(10) {
            0..4 => {
                backups += 1;
                history.publish(backups);
            }
            4..8 => history.delete(),
            _ => history.meter(500),
        }
        if matches!(heir, Heir::Oldest) {
            assert_eq!(history.attributed(), history.stored(), "seed {seed}");
        }
        history.second = match history.random.below(4) {
            0 => history.second,
            // To the exact end of the hour, or a second before it.
            1 => (history.second / 3600 + 1) * 3600 - history.random.below(2).min(3599 - history.second % 3600),
            _ => history.second + history.random.between(1, 1800),
        };
    }
    history.second = SECONDS;
    history.meter(1000);
    let midnight = Hour::containing(DateTime::parse_from_rfc3339("2026-02-01T00:00:00Z").unwrap().to_utc());
    let expected = replay(&history, |hour| if hour < midnight { before } else { Some(after) });
    (history.records, expected)
}

#[test]
fn the_meter_agrees_with_a_replay_of_every_second() {
    let mut records = 0;
    for seed in seeds(SEEDS) {
        let (metered, expected) = run(seed, Heir::Oldest);
        assert_eq!(metered, expected, "seed {seed}");
        records += metered.len();
    }
    assert!(records > 500, "only {records} records in all histories");
}

#[test]
fn wrong_rules_of_inheritance_are_caught() {
    for heir in [Heir::Youngest, Heir::Nobody] {
        let differs = |seed| matches!(run(seed, heir), (metered, expected) if metered != expected);
        assert!(seeds(SEEDS).any(differs), "in none of {:?}", seeds(SEEDS));
    }
}
