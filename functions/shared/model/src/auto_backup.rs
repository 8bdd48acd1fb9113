//! Automatic backups: when one is due, and what became of it.

use std::{fmt, str::FromStr};

use chrono::{DateTime, MappedLocalTime, NaiveTime, TimeDelta, TimeZone, Timelike};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use crate::{
    BackupId, BackupName, Due, DueKind, Failure, FailureCode, InstanceId, Invalid, Time, names::serde_as_text,
};

/// The scheduler delivers a run within its minute, and tries again while the function is throttled. One that hasn't come
/// after so long is begun by the sweep.
const UNDELIVERED: TimeDelta = TimeDelta::minutes(5);

/// The scheduler's clock and ours may be so far apart.
const EARLY: TimeDelta = TimeDelta::minutes(1);

/// A run that begins so much later than it was scheduled is late: people who count on its hour want to know.
const LATE: TimeDelta = TimeDelta::minutes(15);

/// No request to the scheduler is under way any more so long after the change was written down: no function that changes
/// schedules runs for longer, but the sweep, which doesn't begin to before.
const SETTLED: TimeDelta = TimeDelta::minutes(2);

/// A time of day, to the minute: the scheduler's grain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunTime(NaiveTime);

impl FromStr for RunTime {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let is_number = |part: &str| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_digit());
        let parts: Vec<&str> = text.split(':').collect();
        let is_time = (2..=3).contains(&parts.len()) && parts.iter().all(|part| is_number(part));
        let number = |place: usize| parts.get(place).map_or(Ok(0), |part: &&str| part.parse::<u32>());
        let (Ok(hour), Ok(minute), Ok(second), true) = (number(0), number(1), number(2), is_time) else {
            return Err(Invalid::new("a time is written HH:MM or HH:MM:SS, such as '03:00:00'"));
        };
        let Some(time) = NaiveTime::from_hms_opt(hour, minute, second) else {
            return Err(Invalid::new(format!("'{text}' is not a time of day: they go from 00:00 to 23:59")));
        };
        if second != 0 {
            return Err(Invalid::new("the scheduler starts backups on the minute: the seconds of a time are 00"));
        }
        Ok(Self(time))
    }
}

impl fmt::Display for RunTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format("%H:%M:%S"))
    }
}

serde_as_text!(RunTime);

/// An IANA time zone such as `Asia/Tokyo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(Tz);

impl FromStr for Zone {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let unknown = |_| Invalid::new(format!("'{text}' is not an IANA time zone such as 'UTC' or 'Asia/Tokyo'"));
        text.parse().map(Self).map_err(unknown)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

serde_as_text!(Zone);

/// For how many days an automatic backup is kept: 1 to 365.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct RetentionDays(u16);

/// How many of the newest available automatic backups outlive their expiry: 0 to 365.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct KeepAtLeast(u16);

macro_rules! bounded_number {
    ($name:ident, $bounds:expr, $reason:literal) => {
        impl TryFrom<u32> for $name {
            type Error = Invalid;

            fn try_from(number: u32) -> Result<Self, Invalid> {
                let fits = u16::try_from(number).ok().filter(|number| $bounds.contains(number));
                fits.map(Self).ok_or_else(|| Invalid::new($reason))
            }
        }

        impl From<$name> for u32 {
            fn from(number: $name) -> u32 {
                number.0.into()
            }
        }
    };
}

bounded_number!(RetentionDays, (1..=365), "automatic backups are kept for 1 to 365 days");
bounded_number!(KeepAtLeast, (0..=365), "is a number from 0 to 365");

impl RetentionDays {
    /// The days as a duration: days of 24 hours.
    pub fn duration(self) -> TimeDelta {
        TimeDelta::days(self.0.into())
    }
}

impl KeepAtLeast {
    /// None: an expiry is an expiry.
    pub const NONE: Self = Self(0);

    /// The number.
    pub fn count(self) -> usize {
        self.0.into()
    }
}

/// When an instance is backed up, and how long those backups are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The time of day in the time zone.
    pub time: RunTime,
    /// In which the time is meant.
    pub timezone: Zone,
    /// What the backups' expiry is made of.
    pub retention_days: RetentionDays,
    /// What outlives its expiry.
    pub keep_at_least: KeepAtLeast,
}

impl Default for Plan {
    /// Every day at 03:00 UTC, kept for three days.
    fn default() -> Self {
        let time = RunTime(NaiveTime::from_hms_opt(3, 0, 0).unwrap_or_default());
        Self { time, timezone: Zone(Tz::UTC), retention_days: RetentionDays(3), keep_at_least: KeepAtLeast::NONE }
    }
}

impl Plan {
    /// The first run after this moment.
    ///
    /// As EventBridge Scheduler does it: a run at a local time that a change of the clocks leaves out is skipped that day,
    /// and one at a time that comes twice runs once (user guide, "Schedule types", "Daylight savings time"). Of the two
    /// it is the first: the cron's next time after the run of the day before.
    pub fn next_run(&self, after: Time) -> Time {
        self.runs_from(after, Step::Forward).find(|run| *run > after).unwrap_or(after + TimeDelta::days(1))
    }

    /// The last run that was due by this moment.
    pub fn latest_run(&self, now: Time) -> Time {
        self.runs_from(now, Step::Back).find(|run| *run <= now).unwrap_or(now - TimeDelta::days(1))
    }

    /// Runs of the days around this moment, in this direction. A week of them: a zone may leave out a day or two, as
    /// Samoa once did, but never more.
    fn runs_from(&self, moment: Time, step: Step) -> impl Iterator<Item = Time> {
        let Self { time: RunTime(time), timezone: Zone(zone), .. } = *self;
        let today = moment.with_timezone(&zone).date_naive();
        (-1..7).filter_map(move |days| {
            let day = today.checked_add_signed(TimeDelta::days(match step {
                Step::Forward => days,
                Step::Back => -days,
            }))?;
            match zone.from_local_datetime(&day.and_time(time)) {
                MappedLocalTime::Single(run) | MappedLocalTime::Ambiguous(run, _) => Some(run.to_utc()),
                MappedLocalTime::None => None,
            }
        })
    }

    /// The name of the backup of a run, in the plan's zone; `again` counts names that are taken, from 0.
    ///
    /// # Errors
    /// None for the years up to 9999.
    pub fn name(&self, run: Time, again: u32) -> Result<BackupName, Invalid> {
        let local: DateTime<Tz> = run.with_timezone(&self.timezone.0);
        let name = local.format("auto-%Y-%m-%dT%H-%M");
        if again == 0 { name.to_string().parse() } else { format!("{name}-{}", again + 1).parse() }
    }

    /// The scheduler's expression for the time of day: `cron(minute hour day month weekday year)`.
    pub fn cron(&self) -> String {
        format!("cron({} {} * * ? *)", self.time.0.minute(), self.time.0.hour())
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Forward,
    Back,
}

/// Whether an instance is backed up without anyone asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "switch", rename_all = "camelCase")]
pub enum Switch {
    /// It isn't.
    Off,
    /// It is; runs of before this moment aren't of the present plan.
    On {
        /// Since when the plan's time is what it is.
        since: Time,
    },
}

/// What a caller wants of automatic backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Backups every day.
    On,
    /// None.
    Off,
}

/// Whether the scheduler is known to have what the catalog says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "schedule", rename_all = "camelCase")]
pub enum ScheduleState {
    /// It has.
    Confirmed,
    /// It may have something else; the sweep sees to it.
    Unconfirmed {
        /// Since the last change.
        since: Time,
    },
}

/// An instance's automatic backups, as the catalog keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AutoBackup {
    /// Of which instance.
    pub instance_id: InstanceId,
    /// When, and for how long.
    pub plan: Plan,
    /// Whether at all.
    pub switch: Switch,
    /// Whether the scheduler knows.
    pub schedule: ScheduleState,
    /// The last run that anything is known of.
    pub last_run: Option<AutoRun>,
}

/// A scheduled run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AutoRun {
    /// The time that it was scheduled for: its identity.
    pub scheduled_for: Time,
    /// What became of it.
    pub state: AutoRunState,
}

/// What became of a scheduled run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum AutoRunState {
    /// It couldn't begin yet. It can until the next one is due.
    Waiting {
        /// Since when.
        since: Time,
        /// What for.
        failure: Failure,
    },
    /// It made this backup, which says the rest.
    #[serde(rename_all = "camelCase")]
    Started {
        /// When.
        at: Time,
        /// Which.
        backup_id: BackupId,
    },
    /// It can't be made.
    Failed {
        /// Since when that is known.
        at: Time,
        /// Why.
        failure: Failure,
    },
    /// Its time was over before it could begin.
    Missed {
        /// Since when that is known.
        at: Time,
        /// What it waited for.
        failure: Failure,
    },
}

/// What to do about a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunDecision {
    /// Begin it, or try again to.
    Begin {
        /// Runs before it that never began, if there are any.
        missed: Option<MissedRuns>,
    },
    /// Nothing, for this reason.
    Nothing(&'static str),
}

/// Runs that never began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissedRuns {
    /// The first.
    pub first: Time,
    /// The last.
    pub last: Time,
    /// How many, the first and the last included.
    pub count: u32,
    /// What they waited for.
    pub failure: Failure,
}

impl AutoRun {
    /// By how much a run that was begun is late, if people want to know.
    pub fn late_by(&self) -> Option<TimeDelta> {
        match &self.state {
            AutoRunState::Started { at, .. } => Some(*at - self.scheduled_for).filter(|late| *late > LATE),
            _ => None,
        }
    }
}

impl AutoBackup {
    /// That of an instance for which none was ever asked for.
    pub fn off(instance_id: InstanceId) -> Self {
        let (plan, switch) = (Plan::default(), Switch::Off);
        Self { instance_id, plan, switch, schedule: ScheduleState::Confirmed, last_run: None }
    }

    /// The next run, if it is switched on.
    pub fn next_run(&self, now: Time) -> Option<Time> {
        matches!(self.switch, Switch::On { .. }).then(|| self.plan.next_run(now))
    }

    /// The first run of which nothing is known.
    fn expected(&self) -> Option<Time> {
        let Switch::On { since } = self.switch else { return None };
        let last = self.last_run.as_ref().map_or(Time::MIN_UTC, |run| run.scheduled_for);
        Some(self.run_after(last, since))
    }

    /// The first run of the present plan after this one, which may be of an earlier plan. The plan's time of a day is a
    /// run only from `since` on: before, it had never been one.
    fn run_after(&self, run: Time, since: Time) -> Time {
        // A run at the very moment of `since` is the plan's.
        self.plan.next_run(run.max(since - TimeDelta::nanoseconds(1)))
    }

    /// What is to be done about a run that was scheduled for this time. That time is its identity: however often it is
    /// asked for, it is begun once.
    pub fn decide(&self, run: Time, now: Time) -> RunDecision {
        let Switch::On { since } = self.switch else {
            return RunDecision::Nothing("automatic backup is switched off");
        };
        if run > now + EARLY {
            return RunDecision::Nothing("the run isn't due yet");
        }
        if self.run_after(run, since) <= now {
            return RunDecision::Nothing("a later run is due");
        }
        match &self.last_run {
            Some(AutoRun { scheduled_for, state }) if *scheduled_for == run => match state {
                AutoRunState::Waiting { .. } => return RunDecision::Begin { missed: None },
                _ => return RunDecision::Nothing("the run was begun before"),
            },
            Some(last) if last.scheduled_for > run => return RunDecision::Nothing("a later run has begun"),
            _ if run < since => return RunDecision::Nothing("the time was set after this run was due"),
            _ => {}
        }
        RunDecision::Begin { missed: self.missed_before(run, since) }
    }

    /// The runs before this one that never began.
    fn missed_before(&self, run: Time, since: Time) -> Option<MissedRuns> {
        let never_came = || Failure::new(FailureCode::RunNotDelivered, "the scheduler didn't deliver the run");
        let (first, failure) = match &self.last_run {
            Some(AutoRun { scheduled_for, state: AutoRunState::Waiting { failure, .. } }) => {
                (*scheduled_for, failure.clone())
            }
            _ => (self.expected()?, never_came()),
        };
        let mut missed = MissedRuns { first, last: first, count: 1, failure };
        if first >= run {
            return None;
        }
        while let next = self.run_after(missed.last, since)
            && next < run
        {
            missed.last = next;
            missed.count += 1;
        }
        Some(missed)
    }

    /// The run that somebody should see to, because the scheduler didn't or because it waits.
    pub fn pending(&self, now: Time) -> Option<Time> {
        let overdue = self.expected().filter(|expected| *expected + UNDELIVERED <= now);
        match (&self.last_run, overdue) {
            (_, Some(_)) => Some(self.plan.latest_run(now - UNDELIVERED)),
            (Some(AutoRun { scheduled_for, state: AutoRunState::Waiting { .. } }), None) => Some(*scheduled_for),
            _ => None,
        }
    }

    /// Whether the scheduler is to be told again what the catalog says.
    pub fn is_unsettled(&self, now: Time) -> bool {
        matches!(self.schedule, ScheduleState::Unconfirmed { since } if since + SETTLED <= now)
    }

    /// With another plan and switch, from now on. A run that is due by the present plan stays due; one that waits while
    /// it is switched off is missed.
    #[must_use]
    pub fn changed(mut self, plan: Plan, wanted: Wanted, now: Time) -> Self {
        let is_due = self.expected().is_some_and(|expected| expected <= now);
        if is_due && wanted == Wanted::On {
            let failure = Failure::new(FailureCode::RunNotDelivered, "the scheduler has yet to deliver the run");
            let state = AutoRunState::Waiting { since: now, failure };
            self.last_run = Some(AutoRun { scheduled_for: self.plan.latest_run(now), state });
        }
        if wanted == Wanted::Off
            && let Some(AutoRun { state, .. }) = &mut self.last_run
            && matches!(state, AutoRunState::Waiting { .. })
        {
            let message = "automatic backup was switched off while the run waited";
            *state = AutoRunState::Missed { at: now, failure: Failure::new(FailureCode::SwitchedOff, message) };
        }
        let stays = (plan.time, plan.timezone) == (self.plan.time, self.plan.timezone);
        self.switch = match (wanted, self.switch) {
            (Wanted::Off, _) => Switch::Off,
            (Wanted::On, Switch::On { since }) if stays => Switch::On { since },
            (Wanted::On, _) => Switch::On { since: now },
        };
        self.plan = plan;
        self.schedule = ScheduleState::Unconfirmed { since: now };
        self
    }

    /// What the sweep has to do about it, if anything.
    pub fn due(&self) -> Option<Due> {
        let unconfirmed = match self.schedule {
            ScheduleState::Confirmed => None,
            ScheduleState::Unconfirmed { since } => Some(since + SETTLED),
        };
        let waiting = match &self.last_run {
            Some(AutoRun { state: AutoRunState::Waiting { since, .. }, .. }) => Some(*since),
            _ => None,
        };
        let undelivered = self.expected().map(|expected| expected + UNDELIVERED);
        let at = [unconfirmed, waiting, undelivered].into_iter().flatten().min()?;
        Some(Due { kind: DueKind::AutoBackup, at })
    }
}
