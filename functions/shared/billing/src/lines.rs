//! Usage lines: records summed by hour, day or month, in pages.
//!
//! Records are stored by hour, and within an hour by instance and backup. The lines of a day are a merge of the
//! listings of its 24 hours, those of a month of up to 744 hours. Each listing is read a little ahead, so a page needs
//! memory for some ten thousand records, however many there are.

use std::{collections::VecDeque, fmt, str::FromStr};

use chrono::NaiveDate;
use futures::{StreamExt, TryStreamExt, stream};
use milvault_jobs::{Error, Jobs};
use milvault_model::{
    BackupId, BackupKind, Charge, Correction, Hour, InstanceId, Invalid, Month, Region, Time, UsageRecord,
};
use milvault_ports::{Deadline, PageRequest};
use serde::{Deserialize, Serialize};

/// The number of records that are read ahead for all hours of a period together.
const READ_AHEAD: usize = 20_000;

/// The number of hours that are read concurrently.
const IN_FLIGHT: usize = 32;

/// The length of a line's period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Granularity {
    /// An hour.
    Hour,
    /// A day in UTC.
    Day,
    /// A calendar month in UTC.
    Month,
}

impl Granularity {
    /// Returns the first hour after the period that contains this hour.
    fn end(self, hour: Hour) -> Hour {
        match self {
            Self::Hour => hour.next(),
            Self::Day => Hour::first_of(hour.day() + chrono::Days::new(1)),
            Self::Month => Month::containing(hour).next().first(),
        }
    }
}

/// A query for usage lines.
#[derive(Debug, Clone)]
pub struct Query {
    /// The first hour.
    pub from: Hour,
    /// The first hour after the queried time.
    pub to: Hour,
    /// The regions, sorted.
    pub regions: Vec<Region>,
    /// The instance; `None` for all.
    pub instance: Option<InstanceId>,
    /// The length of a line's period. `from` and `to` cut the first and the last period.
    pub granularity: Granularity,
}

/// A backup's usage in a period at one price, or a correction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When the period begins.
    pub begins: Time,
    /// When the period ends.
    pub ends: Time,
    /// The region that the bytes are stored in.
    pub region: Region,
    /// The instance that was backed up.
    pub instance_id: InstanceId,
    /// The backup's id.
    pub backup_id: BackupId,
    /// Who requested the backup.
    pub kind: BackupKind,
    /// Bytes times hours; negative in a correction that reduces the usage.
    pub byte_hours: i64,
    /// The size of the whole snapshot, including shared objects.
    pub logical_bytes: u64,
    /// The exact cost; `None` if the region had no price.
    pub charge: Option<Charge>,
    /// The correction that the line represents, if it is one.
    pub correction: Option<Correction>,
}

impl Line {
    /// Makes the line of a single record.
    pub fn from_record(record: &UsageRecord) -> Self {
        Self {
            begins: record.hour.start(),
            ends: record.hour.next().start(),
            region: record.region.clone(),
            instance_id: record.instance_id.clone(),
            backup_id: record.backup_id.clone(),
            kind: record.kind,
            byte_hours: record.byte_hours,
            logical_bytes: record.logical_bytes,
            charge: record.charge.clone(),
            correction: record.correction.clone(),
        }
    }
}

/// The position where a page of lines begins: a line of a backup in a region and a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The first hour of the period.
    pub hour: Hour,
    /// The region.
    pub region: Region,
    /// `{instance}#{backup}`; empty for the region's first backup.
    place: String,
    /// The number of the backup's lines on earlier pages.
    lines: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hour, region, place, lines } = self;
        write!(formatter, "{hour} {region} {lines} {place}")
    }
}

impl FromStr for Position {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut parts = text.splitn(4, ' ');
        let mut part = || parts.next().ok_or_else(|| Invalid::new("not a position"));
        let (hour, region, lines, place) = (part()?, part()?, part()?, part()?);
        let not = |_| Invalid::new("not a position");
        Ok(Self {
            hour: Hour::containing(hour.parse().map_err(|_| Invalid::new("not a position"))?),
            region: region.parse()?,
            place: match place.split_once('#') {
                None if place.is_empty() => String::new(),
                Some((instance, backup)) => place_of(&instance.parse()?, &backup.parse()?),
                None => return Err(Invalid::new("not a position")),
            },
            lines: lines.parse().map_err(not)?,
        })
    }
}

/// A page of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinePage {
    /// The lines by period, region, instance, backup and price. Corrections follow the lines that they correct.
    pub lines: Vec<Line>,
    /// The position of the next page, if there is one.
    pub next: Option<Position>,
}

/// Reads a page of at most `limit` lines, or fewer if the deadline comes first.
///
/// # Errors
/// The catalog fails.
pub async fn lines(
    jobs: &Jobs,
    query: &Query,
    from: Option<Position>,
    limit: usize,
    deadline: Deadline,
) -> Result<LinePage, Error> {
    let mut lines = Vec::new();
    let (mut begins, mut resumed) = (from.as_ref().map_or(query.from, |from| from.hour.max(query.from)), from);
    while begins < query.to {
        let ends = query.granularity.end(begins).min(query.to);
        for region in &query.regions {
            let (mut place, mut over) = (String::new(), 0);
            if let Some(from) = &resumed {
                if *region < from.region {
                    continue;
                }
                if *region == from.region {
                    (place, over) = (from.place.clone(), from.lines);
                }
                resumed = None;
            }
            let mut merge = Merge::begin(jobs, query, region, (begins, ends), &place);
            while let Some(group) = merge.next().await? {
                if group.place < place {
                    continue;
                }
                let over = if group.place == place { over } else { 0 };
                for (number, line) in group.lines(begins, ends)?.into_iter().enumerate().skip(over) {
                    let at =
                        |lines| Position { hour: begins, region: region.clone(), place: group.place.clone(), lines };
                    if lines.len() >= limit {
                        return Ok(LinePage { lines, next: Some(at(number)) });
                    }
                    lines.push(line);
                }
                // Each page reads at least one backup beyond the one that it begins at.
                if group.place != place && deadline.is_over(jobs.now()) {
                    let next = Position { hour: begins, region: region.clone(), place: group.place, lines: usize::MAX };
                    return Ok(LinePage { lines, next: Some(next) });
                }
            }
        }
        (begins, resumed) = (ends, None);
        if deadline.is_over(jobs.now())
            && begins < query.to
            && let Some(region) = query.regions.first()
        {
            let next = Position { hour: begins, region: region.clone(), place: String::new(), lines: 0 };
            return Ok(LinePage { lines, next: Some(next) });
        }
    }
    Ok(LinePage { lines, next: None })
}

/// A region's records of a period, backup by backup.
struct Merge<'a> {
    jobs: &'a Jobs,
    region: &'a Region,
    instance: Option<&'a InstanceId>,
    /// The number of records of an hour that are read at once.
    ahead: usize,
    hours: Vec<HourListing>,
}

struct HourListing {
    hour: Hour,
    read: VecDeque<UsageRecord>,
    after: Option<String>,
    more: bool,
}

/// A backup's records of a period, by hour.
struct Group {
    place: String,
    records: Vec<UsageRecord>,
}

fn place_of(instance: &InstanceId, backup: &BackupId) -> String {
    format!("{instance}#{backup}")
}

fn place_of_record(record: &UsageRecord) -> String {
    place_of(&record.instance_id, &record.backup_id)
}

impl<'a> Merge<'a> {
    /// Begins to read from shortly before `place`, because a listing begins after a key.
    fn begin(jobs: &'a Jobs, query: &'a Query, region: &'a Region, (begins, ends): (Hour, Hour), place: &str) -> Self {
        let mut before = place.to_owned();
        before.pop();
        let after = Some(before).filter(|before| !before.is_empty());
        let listing = |hour| HourListing { hour, read: VecDeque::new(), after: after.clone(), more: true };
        let hours: Vec<_> = std::iter::successors(Some(begins), |hour| Some(hour.next()))
            .take_while(|hour| *hour < ends)
            .map(listing)
            .collect();
        let ahead = (READ_AHEAD / hours.len().max(1)).clamp(25, 1000);
        Self { jobs, region, instance: query.instance.as_ref(), ahead, hours }
    }

    /// Returns the next backup's records.
    async fn next(&mut self) -> Result<Option<Group>, Error> {
        self.fill().await?;
        let Some(place) = self.hours.iter().filter_map(|hour| hour.read.front()).map(place_of_record).min() else {
            return Ok(None);
        };
        let mut records = Vec::new();
        loop {
            for hour in &mut self.hours {
                while let Some(record) = hour.read.pop_front_if(|record| place_of_record(record) == place) {
                    records.push(record);
                }
            }
            // An hour whose page has ended may have more records of this backup on its next page.
            if !self.hours.iter().any(|hour| hour.read.is_empty() && hour.more) {
                records.sort_by_key(|record| record.hour);
                return Ok(Some(Group { place, records }));
            }
            self.fill().await?;
        }
    }

    /// Reads the next page of every hour whose records are used up.
    async fn fill(&mut self) -> Result<(), Error> {
        let Self { jobs, region, instance, ahead, hours } = self;
        let empty = hours.iter_mut().filter(|hour| hour.read.is_empty() && hour.more);
        let reads = empty.map(async |hour| {
            let page = PageRequest { after: hour.after.take(), limit: *ahead };
            let page = jobs.ports.catalog.usage(region, hour.hour, *instance, page).await?;
            hour.more = page.next.is_some();
            hour.after = page.next;
            hour.read.extend(page.items);
            Ok::<_, Error>(())
        });
        stream::iter(reads).buffer_unordered(IN_FLIGHT).try_collect().await
    }
}

impl Group {
    /// Makes the lines of a backup: one for each price, then the corrections.
    fn lines(&self, begins: Hour, ends: Hour) -> Result<Vec<Line>, Error> {
        let price = |charge: &Option<Charge>| charge.as_ref().map(|c| (c.currency.clone(), c.unit_price.clone()));
        let (corrections, metered): (Vec<_>, Vec<_>) =
            self.records.iter().partition(|record| record.correction.is_some());
        let mut lines: Vec<Line> = Vec::new();
        for record in metered {
            let same = lines.iter_mut().find(|line| price(&line.charge) == price(&record.charge));
            let Some(sum) = same else {
                lines.push(Line { begins: begins.start(), ends: ends.start(), ..Line::from_record(record) });
                continue;
            };
            // The limit is some eight exabytes for an hour. No answer is better than a wrong one.
            sum.byte_hours = sum.byte_hours.checked_add(record.byte_hours).ok_or_else(|| {
                Error::Inconsistent(format!("the usage of {} from {begins} on exceeds the largest sum", self.place))
            })?;
            sum.logical_bytes = record.logical_bytes;
            if let (Some(sum), Some(charge)) = (&mut sum.charge, &record.charge) {
                sum.cost = sum.cost.plus(&charge.cost);
            }
        }
        // A correction keeps its hour, whatever the period.
        lines.extend(corrections.into_iter().map(Line::from_record));
        Ok(lines)
    }
}

/// Makes the query for all lines of a day in a region.
pub(super) fn day_query(region: &Region, day: NaiveDate) -> Query {
    let from = Hour::first_of(day);
    Query {
        from,
        to: Granularity::Day.end(from),
        regions: vec![region.clone()],
        instance: None,
        granularity: Granularity::Day,
    }
}
