//! Tests of when automatic backups run, over ten years in twenty time zones, and of runs that are delivered late or
//! twice.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use chrono::{DateTime, NaiveDate, TimeDelta, TimeZone};
use chrono_tz::Tz;
use milvault_model::{
    AutoBackup, AutoRun, AutoRunState, DueKind, Failure, FailureCode, Plan, RequestedSwitch, RunDecision,
    ScheduleState, Switch, Time,
};
use proptest::prelude::*;

/// Zones with offsets of quarter and half hours, with clock changes at midnight or by half an hour, on both
/// hemispheres, and zones that never change.
const ZONES: [&str; 20] = [
    "UTC",
    "Europe/Berlin",
    "Europe/London",
    "Europe/Dublin",
    "America/New_York",
    "America/Los_Angeles",
    "America/St_Johns",
    "America/Sao_Paulo",
    "America/Santiago",
    "America/Havana",
    "Asia/Tokyo",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Asia/Beirut",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Australia/Lord_Howe",
    "Pacific/Auckland",
    "Pacific/Chatham",
    "Pacific/Apia",
];

/// In these years, every offset from UTC is a multiple of a quarter of an hour.
const QUARTER: TimeDelta = TimeDelta::minutes(15);

fn at(text: &str) -> Time {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn plan(time: &str, zone: &str) -> Plan {
    Plan { time: time.parse().unwrap(), timezone: zone.parse().unwrap(), ..Plan::default() }
}

/// Every run of ten years, found by checking the local time at every quarter of an hour.
fn runs_on_the_wall(hour: u32, minute: u32, zone: Tz) -> Vec<Time> {
    use chrono::Timelike;
    let mut now = at("2025-01-01T00:00:00Z") + TimeDelta::minutes((minute % 15).into());
    let mut runs = Vec::new();
    let mut last_day: Option<NaiveDate> = None;
    while now < at("2035-01-01T00:00:00Z") {
        let wall = zone.from_utc_datetime(&now.naive_utc());
        // A local time that occurs a second time in a day isn't a second run.
        if (wall.hour(), wall.minute()) == (hour, minute) && last_day != Some(wall.date_naive()) {
            last_day = Some(wall.date_naive());
            runs.push(now);
        }
        now += QUARTER;
    }
    runs
}

#[test]
fn the_next_run_is_what_the_clock_on_the_wall_says_for_ten_years_in_twenty_zones() {
    for (number, name) in ZONES.iter().enumerate() {
        let zone: Tz = name.parse().unwrap();
        // Each zone is tested at a different time, and all of them when clocks change.
        let own = (number as u32 * 7 % 24, number as u32 * 13 % 60);
        for (hour, minute) in [own, (0, 0), (2, 30)] {
            let plan = plan(&format!("{hour:02}:{minute:02}"), name);
            let runs = runs_on_the_wall(hour, minute, zone);
            assert!(runs.len() > 3_630, "{name}");
            for pair in runs.windows(2) {
                let [run, next] = pair else { unreachable!() };
                assert_eq!(plan.next_run(*run), *next, "{name} {hour}:{minute} after {run}");
                assert_eq!(plan.next_run(*next - TimeDelta::milliseconds(1)), *next, "{name} before {next}");
                assert_eq!(plan.latest_run(*next - TimeDelta::milliseconds(1)), *run, "{name} by {next}");
                assert_eq!(plan.latest_run(*run), *run, "{name} at {run}");
            }
        }
    }
}

#[test]
fn a_time_that_the_clocks_leave_out_is_skipped_and_one_that_comes_twice_runs_once() {
    let berlin = plan("02:30", "Europe/Berlin");
    // 29 March 2026: the clocks go forward from 02:00 to 03:00.
    assert_eq!(berlin.next_run(at("2026-03-28T01:30:00Z")), at("2026-03-30T00:30:00Z"));
    assert_eq!(berlin.latest_run(at("2026-03-29T12:00:00Z")), at("2026-03-28T01:30:00Z"));
    // 25 October 2026: the clocks go back from 03:00 to 02:00.
    assert_eq!(berlin.next_run(at("2026-10-25T00:00:00Z")), at("2026-10-25T00:30:00Z"));
    assert_eq!(berlin.next_run(at("2026-10-25T00:30:00Z")), at("2026-10-26T01:30:00Z"));
}

#[test]
fn a_run_is_named_in_its_zone() {
    let plan = plan("03:00:00", "Asia/Tokyo");
    let run = at("2026-11-22T18:00:00Z");
    assert_eq!(plan.next_run(at("2026-11-22T17:59:59Z")), run);
    assert_eq!(plan.name(run, 0).unwrap().as_str(), "auto-2026-11-23T03-00");
    assert_eq!(plan.name(run, 1).unwrap().as_str(), "auto-2026-11-23T03-00-2");
    assert_eq!(plan.cron(), "cron(0 3 * * ? *)");
}

#[test]
fn a_time_is_of_minutes_and_says_why_when_it_is_not() {
    use milvault_model::RunTime;
    for (text, shown) in [("03:00", "03:00:00"), ("23:59:00", "23:59:00"), ("00:00", "00:00:00")] {
        assert_eq!(text.parse::<RunTime>().unwrap().to_string(), shown);
    }
    for bad in ["", "3:00", "24:00", "03:60", "03", "03:00:00:00", "aa:bb", "03:00Z", "+3:00", " 03:00", "03:-1"] {
        assert!(bad.parse::<RunTime>().is_err(), "{bad:?}");
    }
    assert!("03:00:30".parse::<RunTime>().unwrap_err().to_string().contains("seconds"));
    for bad in ["", "Mars/Olympus", "+02:00", "berlin"] {
        assert!(bad.parse::<milvault_model::Zone>().is_err(), "{bad:?}");
    }
}

fn switched_on(time: &str, since: &str) -> AutoBackup {
    let off = AutoBackup::off("orders".parse().unwrap());
    let on = off.changed(plan(time, "UTC"), RequestedSwitch::On, at(since));
    AutoBackup { schedule: ScheduleState::Confirmed, ..on }
}

fn begun(mut record: AutoBackup, run: &str) -> AutoBackup {
    let backup_id = "bk-01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    record.last_run = Some(AutoRun { scheduled_for: at(run), state: AutoRunState::Started { at: at(run), backup_id } });
    record
}

fn waiting(mut record: AutoBackup, run: &str) -> AutoBackup {
    let state = AutoRunState::Waiting { since: at(run), failure: Failure::new(FailureCode::InstanceBusy, "busy") };
    record.last_run = Some(AutoRun { scheduled_for: at(run), state });
    record
}

fn is_begun(decision: &RunDecision) -> bool {
    matches!(decision, RunDecision::Begin { missed: None })
}

const MONDAY: &str = "2026-11-23T03:00:00Z";
const TUESDAY: &str = "2026-11-24T03:00:00Z";
const WEDNESDAY: &str = "2026-11-25T03:00:00Z";

#[test]
fn a_run_begins_once_however_often_it_is_delivered() {
    let record = switched_on("03:00", "2026-11-22T10:00:00Z");
    assert!(is_begun(&record.decide(at(MONDAY), at(MONDAY))));
    assert!(is_begun(&record.decide(at(MONDAY), at("2026-11-23T02:59:58Z"))));
    assert!(matches!(record.decide(at(MONDAY), at("2026-11-23T02:58:00Z")), RunDecision::Nothing(_)));
    let record = begun(record, MONDAY);
    for now in [MONDAY, "2026-11-23T03:00:59Z", "2026-11-23T23:00:00Z"] {
        assert!(matches!(record.decide(at(MONDAY), at(now)), RunDecision::Nothing(_)), "{now}");
    }
    assert!(is_begun(&record.decide(at(TUESDAY), at(TUESDAY))));
    let record = begun(record, TUESDAY);
    assert!(matches!(record.decide(at(MONDAY), at(TUESDAY)), RunDecision::Nothing(_)));
}

#[test]
fn nothing_is_made_of_a_run_that_comes_when_it_is_switched_off_or_from_before_it_was_on() {
    let on = switched_on("03:00", "2026-11-23T02:59:00Z");
    let off = on.clone().changed(on.plan.clone(), RequestedSwitch::Off, at("2026-11-23T02:59:30Z"));
    assert!(matches!(off.decide(at(MONDAY), at(MONDAY)), RunDecision::Nothing(_)));
    assert!(off.pending(at(WEDNESDAY)).is_none());
    let again = off.clone().changed(off.plan.clone(), RequestedSwitch::On, at("2026-11-23T03:00:20Z"));
    assert!(matches!(again.decide(at(MONDAY), at("2026-11-23T03:00:30Z")), RunDecision::Nothing(_)));
    assert!(is_begun(&again.decide(at(TUESDAY), at(TUESDAY))));
}

#[test]
fn a_run_that_the_scheduler_loses_is_pending_and_those_before_it_are_missed() {
    let record = begun(switched_on("03:00", "2026-11-22T10:00:00Z"), "2026-11-23T03:00:00Z");
    assert_eq!(record.pending(at("2026-11-24T03:04:59Z")), None);
    assert_eq!(record.pending(at("2026-11-24T03:05:00Z")), Some(at(TUESDAY)));
    assert_eq!(record.pending(at("2026-11-26T03:05:00Z")), Some(at("2026-11-26T03:00:00Z")));
    let RunDecision::Begin { missed: Some(missed) } =
        record.decide(at("2026-11-26T03:00:00Z"), at("2026-11-26T03:05:00Z"))
    else {
        panic!("two runs were missed")
    };
    assert_eq!((missed.first, missed.last, missed.count), (at(TUESDAY), at(WEDNESDAY), 2));
    assert_eq!(missed.failure.code, FailureCode::RunNotDelivered);
}

#[test]
fn a_run_that_waits_may_begin_until_the_next_one_is_due_and_is_missed_then() {
    let record = waiting(begun(switched_on("03:00", "2026-11-22T10:00:00Z"), MONDAY), TUESDAY);
    assert_eq!(record.due().unwrap().at, at(TUESDAY));
    assert_eq!(record.due().unwrap().kind, DueKind::AutoBackup);
    assert_eq!(record.pending(at("2026-11-24T09:00:00Z")), Some(at(TUESDAY)));
    assert!(is_begun(&record.decide(at(TUESDAY), at("2026-11-25T02:59:59Z"))));
    assert!(matches!(record.decide(at(TUESDAY), at(WEDNESDAY)), RunDecision::Nothing(_)));
    let RunDecision::Begin { missed: Some(missed) } = record.decide(at(WEDNESDAY), at(WEDNESDAY)) else {
        panic!("a run was missed")
    };
    assert_eq!((missed.first, missed.count, missed.failure.code), (at(TUESDAY), 1, FailureCode::InstanceBusy));
}

#[test]
fn a_change_of_the_time_loses_no_run_that_was_due_and_makes_none_of_the_past() {
    let record = begun(switched_on("03:00", "2026-11-22T10:00:00Z"), MONDAY);
    // The time is changed before the scheduler delivers the run.
    let changed = record.clone().changed(plan("01:00", "UTC"), RequestedSwitch::On, at("2026-11-24T03:00:05Z"));
    assert_eq!(changed.pending(at("2026-11-24T03:00:06Z")), Some(at(TUESDAY)));
    assert!(is_begun(&changed.decide(at(TUESDAY), at("2026-11-24T03:00:06Z"))));
    // 01:00 of that day was never a run.
    let begun = begun(changed, TUESDAY);
    assert_eq!(begun.pending(at("2026-11-24T23:00:00Z")), None);
    assert_eq!(begun.next_run(at("2026-11-24T23:00:00Z")), Some(at("2026-11-25T01:00:00Z")));
    // If only the retention changes, the runs continue.
    let mut kept = record.plan.clone();
    kept.retention_days = 9_u32.try_into().unwrap();
    let kept = record.clone().changed(kept, RequestedSwitch::On, at("2026-11-23T12:00:00Z"));
    assert_eq!(kept.switch, record.switch);
    assert_eq!(kept.pending(at("2026-11-24T03:05:00Z")), Some(at(TUESDAY)));
}

#[test]
fn a_run_that_waits_can_begin_although_the_time_was_set_to_one_between_it_and_now() {
    let record = waiting(switched_on("03:00", "2026-11-22T10:00:00Z"), MONDAY);
    let changed = record.changed(plan("03:33", "UTC"), RequestedSwitch::On, at("2026-11-23T03:33:00.040Z"));
    // 03:33 of that day is over and was never a run, so it doesn't count as a later run.
    for now in ["2026-11-23T03:33:10Z", "2026-11-23T09:00:00Z", "2026-11-24T03:32:59Z"] {
        assert_eq!(changed.pending(at(now)), Some(at(MONDAY)), "{now}");
        assert!(is_begun(&changed.decide(at(MONDAY), at(now))), "{now}");
    }
    let tomorrow = at("2026-11-24T03:33:00Z");
    assert!(matches!(changed.decide(at(MONDAY), tomorrow), RunDecision::Nothing(_)));
    let RunDecision::Begin { missed: Some(missed) } = changed.decide(tomorrow, tomorrow) else {
        panic!("a run was missed")
    };
    assert_eq!((missed.first, missed.last, missed.count), (at(MONDAY), at(MONDAY), 1));
}

#[test]
fn a_run_that_was_due_less_than_a_millisecond_before_it_was_switched_on_is_none() {
    let record = switched_on("03:00", "2026-11-23T03:00:00.000500Z");
    assert_eq!(record.pending(at("2026-11-23T03:05:00Z")), None);
    assert_eq!(record.due().unwrap().at, at("2026-11-24T03:05:00Z"));
    let record = switched_on("03:00", MONDAY);
    assert_eq!(record.pending(at("2026-11-23T03:05:00Z")), Some(at(MONDAY)));
}

#[test]
fn switching_off_ends_a_waiting_run_and_says_so() {
    let record = waiting(switched_on("03:00", "2026-11-22T10:00:00Z"), MONDAY);
    let off = record.clone().changed(record.plan.clone(), RequestedSwitch::Off, at("2026-11-23T04:00:00Z"));
    let Some(AutoRun { state: AutoRunState::Missed { failure, .. }, .. }) = &off.last_run else { panic!("{off:?}") };
    assert_eq!(failure.code, FailureCode::SwitchedOff);
    let confirmed = AutoBackup { schedule: ScheduleState::Confirmed, ..off.clone() };
    assert_eq!(confirmed.due(), None);
    assert!(
        off.needs_schedule_update(at("2026-11-23T04:02:00Z")) && !off.needs_schedule_update(at("2026-11-23T04:01:59Z"))
    );
}

proptest! {
    #[test]
    fn the_next_run_is_after_now_within_two_days_and_shows_the_time_asked_for(
        seconds in 1_735_689_600_i64..2_051_222_400, minute in 0_u32..1_440, zone in 0_usize..20,
    ) {
        let now = DateTime::from_timestamp(seconds, 0).unwrap();
        let text = format!("{:02}:{:02}", minute / 60, minute % 60);
        let plan = plan(&text, ZONES[zone]);
        let next = plan.next_run(now);
        prop_assert!(next > now && next <= now + TimeDelta::hours(49));
        let wall = ZONES[zone].parse::<Tz>().unwrap().from_utc_datetime(&next.naive_utc());
        prop_assert_eq!(wall.format("%H:%M").to_string(), text);
        prop_assert!(plan.latest_run(now) <= now);
        prop_assert_eq!(plan.next_run(plan.latest_run(now)), next);
    }

    #[test]
    fn whatever_is_asked_for_when_what_is_pending_can_begin_or_the_next_run_can(
        steps in prop::collection::vec((0_u8..6, 0_i64..90, prop::sample::select(vec![0, 500, 40_000_000]), 0_i64..90), 1..20),
    ) {
        let mut now = at("2026-11-22T23:00:00Z");
        let mut record = switched_on("23:30", "2026-11-22T22:00:00Z");
        for (step, minutes, micros, ahead) in steps {
            now = now - TimeDelta::nanoseconds(now.timestamp_subsec_nanos().into())
                + TimeDelta::minutes(minutes) + TimeDelta::microseconds(micros);
            let latest = record.plan.latest_run(now);
            let can_begin = |record: &AutoBackup, run| matches!(record.decide(run, now), RunDecision::Begin { .. });
            record = match step {
                // A time shortly before or after now.
                0 | 1 => {
                    let time = now + TimeDelta::minutes(ahead - 45);
                    record.changed(plan(&time.format("%H:%M").to_string(), "UTC"), RequestedSwitch::On, now)
                }
                2 => record.clone().changed(record.plan.clone(), RequestedSwitch::Off, now),
                3 | 4 if can_begin(&record, latest) => waiting(record, &latest.to_rfc3339()),
                5 if can_begin(&record, latest) => begun(record, &latest.to_rfc3339()),
                _ => record,
            };
            if let Some(pending) = record.pending(now) {
                let latest = record.plan.latest_run(now);
                prop_assert!(can_begin(&record, pending) || can_begin(&record, latest), "{pending} at {now}: {record:?}");
            }
        }
    }

    #[test]
    fn of_any_deliveries_every_run_begins_at_most_once_and_the_newest_that_came_in_time_does(
        deliveries in prop::collection::vec((0_i64..10, 0_i64..(36 * 60)), 1..40),
    ) {
        let mut record = switched_on("03:00", "2026-11-22T10:00:00Z");
        let mut deliveries: Vec<(Time, Time)> = deliveries.into_iter().map(|(day, delay)| {
            let run = at(MONDAY) + TimeDelta::days(day);
            (run + TimeDelta::minutes(delay), run)
        }).collect();
        deliveries.sort();
        let mut begun_runs = Vec::new();
        for (now, run) in &deliveries {
            if let RunDecision::Begin { .. } = record.decide(*run, *now) {
                begun_runs.push(*run);
                record = begun(record, &run.to_rfc3339());
            }
            let in_time = *now < *run + TimeDelta::days(1);
            prop_assert!(!in_time || begun_runs.last().is_some_and(|last| last >= run));
        }
        prop_assert!(begun_runs.is_sorted_by(|earlier, later| earlier < later));
        prop_assert!(!matches!(record.switch, Switch::Off));
    }
}
