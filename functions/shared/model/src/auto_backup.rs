//! Automatic backups: when a run is due, and what became of it.

use std::{fmt, str::FromStr};

use chrono::{DateTime, MappedLocalTime, NaiveTime, TimeDelta, TimeZone, Timelike};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use crate::{BackupId, BackupName, Due, DueKind, Failure, FailureCode, InstanceId, Invalid, Time, text::serde_as_text};

/// How long after its scheduled time the sweep starts a run that wasn't delivered. The scheduler delivers a run within
/// its minute, and retries while the function is throttled.
const UNDELIVERED: TimeDelta = TimeDelta::minutes(5);

/// The largest difference allowed between the scheduler's clock and this service's.
const EARLY: TimeDelta = TimeDelta::minutes(1);

/// How late a run may begin before users are notified, because they may count on its time.
const LATE: TimeDelta = TimeDelta::minutes(15);

/// How long after a change to a schedule was stored no request to the scheduler can still be in progress. No function
/// that changes schedules runs for longer, except the sweep, which leaves the schedule alone for this long.
const SETTLED: TimeDelta = TimeDelta::minutes(2);

/// A time of day, to the minute, which is the scheduler's precision.
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

/// The number of days for which an automatic backup is kept: 1 to 365.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct RetentionDays(u16);

/// The number of newest available automatic backups that are kept past their expiry: 0 to 365.
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
    /// The days as a duration of 24 hours each.
    pub fn duration(self) -> TimeDelta {
        TimeDelta::days(self.0.into())
    }
}

impl KeepAtLeast {
    /// Keeps no backup past its expiry.
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
    /// The time of day, in the plan's time zone.
    pub time: RunTime,
    /// The time zone of `time`.
    pub timezone: Zone,
    /// How long backups are kept until they expire.
    pub retention_days: RetentionDays,
    /// How many backups are kept past their expiry.
    pub keep_at_least: KeepAtLeast,
}

impl Default for Plan {
    /// A backup every day at 03:00 UTC, kept for three days.
    fn default() -> Self {
        let time = RunTime(NaiveTime::from_hms_opt(3, 0, 0).unwrap_or_default());
        Self { time, timezone: Zone(Tz::UTC), retention_days: RetentionDays(3), keep_at_least: KeepAtLeast::NONE }
    }
}

impl Plan {
    /// The first run after this time.
    ///
    /// The rules are those of EventBridge Scheduler: a run at a local time that a clock change skips doesn't happen
    /// that day, and a run at a local time that occurs twice happens once (user guide, "Schedule types", "Daylight
    /// savings time"). It happens at the first of the two times, because that is the cron's next time after the
    /// previous day's run.
    pub fn next_run(&self, after: Time) -> Time {
        self.runs_from(after, Step::Forward).find(|run| *run > after).unwrap_or(after + TimeDelta::days(1))
    }

    /// The last run that was due at or before this time.
    pub fn latest_run(&self, now: Time) -> Time {
        self.runs_from(now, Step::Back).find(|run| *run <= now).unwrap_or(now - TimeDelta::days(1))
    }

    /// The runs of the days around this time, in this direction. It covers a week, because a zone may skip a day or
    /// two, as Samoa once did, but never more.
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

    /// The name of a run's backup, in the plan's time zone. `again` is the number of names already found taken.
    ///
    /// # Errors
    /// None for years up to 9999.
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

/// Whether an instance is backed up automatically.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "switch", rename_all = "camelCase")]
pub enum Switch {
    /// Automatic backup is off.
    Off,
    /// Automatic backup is on. Runs before `since` don't belong to the present plan.
    On {
        /// When the plan's present time of day took effect.
        since: Time,
    },
}

/// The state of automatic backup that a caller asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestedSwitch {
    /// Backups every day.
    On,
    /// No automatic backups.
    Off,
}

/// Whether the scheduler is known to have the schedule that the catalog describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "schedule", rename_all = "camelCase")]
pub enum ScheduleState {
    /// The scheduler has it.
    Confirmed,
    /// The scheduler may have another schedule. The sweep puts it right.
    Unconfirmed {
        /// When the schedule was last changed.
        since: Time,
    },
}

/// An instance's automatic backups, as the catalog keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AutoBackup {
    /// The instance that is backed up.
    pub instance_id: InstanceId,
    /// When backups are made, and how long they are kept.
    pub plan: Plan,
    /// Whether automatic backup is on.
    pub switch: Switch,
    /// Whether the scheduler has this schedule.
    pub schedule: ScheduleState,
    /// The last run that has a record.
    pub last_run: Option<AutoRun>,
}

/// A scheduled run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AutoRun {
    /// The scheduled time, which identifies the run.
    pub scheduled_for: Time,
    /// What became of the run.
    pub state: AutoRunState,
}

/// What became of a scheduled run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum AutoRunState {
    /// The run couldn't begin yet. It can until the next run is due.
    Waiting {
        /// When the run began to wait.
        since: Time,
        /// What the run is waiting for.
        failure: Failure,
    },
    /// The run started this backup, whose record has the rest.
    #[serde(rename_all = "camelCase")]
    Started {
        /// When the backup was started.
        at: Time,
        /// The backup's id.
        backup_id: BackupId,
    },
    /// The backup can't be made.
    Failed {
        /// When the failure was recorded.
        at: Time,
        /// Why it failed.
        failure: Failure,
    },
    /// The run's time was over before it could begin.
    Missed {
        /// When the miss was recorded.
        at: Time,
        /// What the run was waiting for.
        failure: Failure,
    },
}

/// What to do about a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunDecision {
    /// Begin the run, or retry beginning it.
    Begin {
        /// Earlier runs that never began, if there are any.
        missed: Option<MissedRuns>,
    },
    /// Do nothing, for this reason.
    Nothing(&'static str),
}

/// Runs that never began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissedRuns {
    /// The first missed run.
    pub first: Time,
    /// The last missed run.
    pub last: Time,
    /// The number of missed runs, including the first and the last.
    pub count: u32,
    /// What the runs were waiting for.
    pub failure: Failure,
}

impl AutoRun {
    /// How late the run began, if that is late enough to notify users.
    pub fn late_by(&self) -> Option<TimeDelta> {
        match &self.state {
            AutoRunState::Started { at, .. } => Some(*at - self.scheduled_for).filter(|late| *late > LATE),
            _ => None,
        }
    }
}

impl AutoBackup {
    /// The record of an instance for which automatic backup was never switched on.
    pub fn off(instance_id: InstanceId) -> Self {
        let (plan, switch) = (Plan::default(), Switch::Off);
        Self { instance_id, plan, switch, schedule: ScheduleState::Confirmed, last_run: None }
    }

    /// The next run; `None` while automatic backup is off.
    pub fn next_run(&self, now: Time) -> Option<Time> {
        matches!(self.switch, Switch::On { .. }).then(|| self.plan.next_run(now))
    }

    /// The first run without a record.
    fn expected(&self) -> Option<Time> {
        let Switch::On { since } = self.switch else { return None };
        let last = self.last_run.as_ref().map_or(Time::MIN_UTC, |run| run.scheduled_for);
        Some(self.run_after(last, since))
    }

    /// The first run of the present plan after this one, which may belong to an earlier plan. The plan's times of day
    /// are runs only from `since` on; before, they were never runs.
    fn run_after(&self, run: Time, since: Time) -> Time {
        // A run at exactly `since` belongs to the plan.
        self.plan.next_run(run.max(since - TimeDelta::nanoseconds(1)))
    }

    /// Decides what to do about the run scheduled for this time. The scheduled time identifies the run, so it is begun
    /// once however often it is delivered.
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

    /// The earlier runs that never began.
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

    /// The run that the sweep should begin, because the scheduler didn't deliver it or because it is waiting.
    pub fn pending(&self, now: Time) -> Option<Time> {
        let overdue = self.expected().filter(|expected| *expected + UNDELIVERED <= now);
        match (&self.last_run, overdue) {
            (_, Some(_)) => Some(self.plan.latest_run(now - UNDELIVERED)),
            (Some(AutoRun { scheduled_for, state: AutoRunState::Waiting { .. } }), None) => Some(*scheduled_for),
            _ => None,
        }
    }

    /// Whether the schedule has to be sent to the scheduler again.
    pub fn needs_schedule_update(&self, now: Time) -> bool {
        matches!(self.schedule, ScheduleState::Unconfirmed { since } if since + SETTLED <= now)
    }

    /// The record with another plan and switch, from now on. A run that is due by the present plan stays due. A run
    /// that is waiting when automatic backup is switched off is missed.
    #[must_use]
    pub fn changed(mut self, plan: Plan, wanted: RequestedSwitch, now: Time) -> Self {
        let is_due = self.expected().is_some_and(|expected| expected <= now);
        if is_due && wanted == RequestedSwitch::On {
            let failure = Failure::new(FailureCode::RunNotDelivered, "the scheduler has yet to deliver the run");
            let state = AutoRunState::Waiting { since: now, failure };
            self.last_run = Some(AutoRun { scheduled_for: self.plan.latest_run(now), state });
        }
        if wanted == RequestedSwitch::Off
            && let Some(AutoRun { state, .. }) = &mut self.last_run
            && matches!(state, AutoRunState::Waiting { .. })
        {
            let message = "automatic backup was switched off while the run waited";
            *state = AutoRunState::Missed { at: now, failure: Failure::new(FailureCode::SwitchedOff, message) };
        }
        let stays = (plan.time, plan.timezone) == (self.plan.time, self.plan.timezone);
        self.switch = match (wanted, self.switch) {
            (RequestedSwitch::Off, _) => Switch::Off,
            (RequestedSwitch::On, Switch::On { since }) if stays => Switch::On { since },
            (RequestedSwitch::On, _) => Switch::On { since: now },
        };
        self.plan = plan;
        self.schedule = ScheduleState::Unconfirmed { since: now };
        self
    }

    /// When the sweep has to handle the record, and what for; `None` if never.
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
