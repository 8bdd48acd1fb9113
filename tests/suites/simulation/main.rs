//! Seeded histories of backups and restores, with faults at every call of a port and invariants that are checked throughout.
//!
//! A history is a function of its seed. Each run begins at a random seed, which it prints, so that runs cover more
//! together; `SIM_FIRST` sets the first seed and `SIM_SEEDS` the number of seeds. A seed that fails is named, and `SIM_SEED`
//! runs that one alone and prints everything that happens in it:
//!
//! ```sh
//! SIM_SEED=42 cargo test -p milvault-tests --test simulation every_history -- --nocapture
//! ```
//!
//! From the outside in: `history` draws what happens and runs it; `workers` polls the invocations, one at a time; `ports`
//! are the ports of an invocation, whose calls go through `calls`, where faults occur, at times that `world` keeps;
//! `server` is the Milvus that is backed up and restored, in which collections are dropped, recreated, renamed and
//! compacted at any moment; its `journal` is the true history, and `fields` defines the content of rows. `audit` checks
//! every effect against `rules`: `format` and `content` read stored data without any code of the jobs, `restores` follows
//! names, `belongings` their aliases and grants, and `automatic` scheduled runs and notices. `broken` has ports with
//! defects, which the audit must find.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod audit;
mod automatic;
mod belongings;
mod billing;
mod broken;
mod calls;
mod content;
mod fields;
mod format;
mod history;
mod journal;
mod ports;
mod restores;
mod rules;
mod server;
mod workers;
mod world;

use std::{
    collections::BTreeMap,
    num::NonZero,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use broken::Defect;
use history::{LEFT_OUT, Outcome, live};
use milvault_harness::{locked, number, seeds};
use world::Follow;

/// Most of a history's time goes into allocation.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The histories of a default run: enough for every defect ever seen here to show several times.
const SEEDS: u64 = 2_500;

/// A defect that doesn't show in this many histories isn't caught. `SIM_COUNT` runs that many histories and prints in how
/// many the defect showed.
const SEEDS_PER_DEFECT: u64 = 1_000;

/// The histories with a defect that the jobs themselves have to notice.
const SEEDS_TO_WITHSTAND: u64 = 200;

/// How many failing seeds are named.
const NAMED: usize = 20;

#[test]
fn every_history_keeps_the_invariants() {
    if let Some(seed) = number("SIM_SEED") {
        let outcome = live(seed, None, Follow::Aloud);
        assert!(outcome.violation.is_none(), "seed {seed}: {outcome:?}");
        return;
    }
    let (range, begun) = (seeds(number("SIM_SEEDS").unwrap_or(SEEDS)), Instant::now());
    let (first, count) = (range.start, range.end - range.start);
    let next = AtomicU64::new(first);
    let failed = Mutex::new(Vec::new());
    let endings = Mutex::new(BTreeMap::<&'static str, u32>::new());
    let known = Mutex::new(BTreeMap::<rules::Rule, u32>::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, NonZero::get) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !range.contains(&seed) || locked(&failed).len() >= NAMED {
                        return;
                    }
                    let outcome = live(seed, None, Follow::Quietly);
                    for (ending, times) in outcome.endings {
                        *endings.lock().unwrap().entry(ending).or_default() += times;
                    }
                    for (rule, times) in outcome.known {
                        *known.lock().unwrap().entry(rule).or_default() += times;
                    }
                    if let Some(violation) = outcome.violation {
                        failed.lock().unwrap().push(format!("SIM_SEED={seed}: {violation}"));
                    }
                }
            });
        }
    });
    let seconds = begun.elapsed().as_secs_f64();
    println!("{count} histories from {first} on in {seconds:.1} s; backups: {:?}", endings.lock().unwrap());
    println!("known: {:?}", known.lock().unwrap());
    let failed = failed.into_inner().unwrap();
    assert!(
        failed.is_empty(),
        "to replay one, set what is before its colon; all of them, SIM_FIRST={first} SIM_SEEDS={count}:\n{}",
        failed.join("\n")
    );
}

#[test]
fn a_seed_tells_the_same_history_every_time() {
    for seed in seeds(10) {
        let [once, again]: [Outcome; 2] = [(); 2].map(|()| live(seed, None, Follow::Fingerprint));
        assert_eq!(once.fingerprint, again.fingerprint, "seed {seed}");
    }
}

fn must_be_caught(defect: Defect, rule: &str) {
    if let Some(seed) = number("SIM_SEED") {
        return println!("{:?}", live(seed, Some(defect), Follow::Aloud));
    }
    // A defect may break several rules: this one is meant for it.
    let breaks = |seed| live(seed, Some(defect), Follow::Quietly).violation.filter(|what| what.starts_with(rule));
    if let Some(count) = number("SIM_COUNT") {
        let caught = seeds(count).filter(|seed| breaks(*seed).is_some()).count();
        println!("{defect:?}: {rule} is broken in {caught} of {count} histories");
    }
    let caught = seeds(SEEDS_PER_DEFECT).find_map(|seed| Some((seed, breaks(seed)?)));
    println!("{defect:?}: {caught:?}");
    let first = seeds(SEEDS_PER_DEFECT).start;
    assert!(caught.is_some(), "{defect:?} breaks {rule} in none of {SEEDS_PER_DEFECT} histories from {first} on");
}

/// Runs histories with a defect that the jobs have to notice: it breaks no rule, and jobs end in this way.
fn must_be_withstood(defect: Defect, ending: &str) {
    if let Some(seed) = number("SIM_SEED") {
        let outcome = live(seed, Some(defect), Follow::Aloud);
        return assert!(outcome.violation.is_none(), "seed {seed}: {outcome:?}");
    }
    let (mut failed, mut noticed) = (Vec::new(), 0);
    let count = number("SIM_COUNT").unwrap_or(SEEDS_TO_WITHSTAND);
    for seed in seeds(count) {
        let outcome = live(seed, Some(defect), Follow::Quietly);
        noticed += u64::from(outcome.endings.contains_key(ending));
        failed.extend(outcome.violation.map(|violation| format!("seed {seed}: {violation}")));
    }
    println!("{defect:?}: in {noticed} of {count} histories there is one {ending}");
    assert!(failed.is_empty(), "{defect:?} does harm in {} histories:\n{}", failed.len(), failed.join("\n"));
    assert!(noticed > 0, "{defect:?} costs nothing in {count} histories from {} on", seeds(count).start);
}

/// The jobs notice most, because files of one id don't explain another's rows; the audit notices the rest.
#[test]
fn identities_that_are_mixed_up_are_noticed() {
    let defect = Defect::TakesNamesForIds;
    if let Some(seed) = number("SIM_SEED") {
        return println!("{:?}", live(seed, Some(defect), Follow::Aloud));
    }
    let is_right = |violation: &str| ["PointInTime:", "Identity:"].iter().any(|rule| violation.starts_with(rule));
    let (mut judged, mut left_out) = (0, 0);
    let count = number("SIM_COUNT").unwrap_or(SEEDS_TO_WITHSTAND);
    for seed in seeds(count) {
        let outcome = live(seed, Some(defect), Follow::Quietly);
        left_out += u64::from(outcome.endings.contains_key(LEFT_OUT));
        judged += u64::from(outcome.violation.as_deref().is_some_and(is_right));
    }
    println!("{defect:?}: of {count} histories, something is left out in {left_out}, and {judged} are caught");
    let first = seeds(count).start;
    assert!(judged + left_out > 0, "{defect:?} goes unnoticed in {count} histories from {first} on");
}

#[test]
fn segments_that_replace_others_after_a_flush_are_missed() {
    must_be_caught(Defect::TrustsTheFlush, "PointInTime:");
}

#[test]
fn collections_that_a_survey_does_not_see_are_missed() {
    must_be_caught(Defect::SurveysAPart, "Complete:");
}

#[test]
fn a_segment_whose_files_are_not_listed_is_never_published() {
    must_be_withstood(Defect::LosesSegments, LEFT_OUT);
}

#[test]
fn a_collection_that_can_never_be_described_does_not_affect_the_others() {
    must_be_withstood(Defect::IsHaunted, LEFT_OUT);
}

#[test]
fn a_garbage_rule_that_overlooks_a_living_backup_is_caught() {
    must_be_caught(Defect::OverlooksABackup, "Whole:");
}

#[test]
fn a_fence_that_lets_an_earlier_worker_commit_is_caught() {
    must_be_caught(Defect::NeedsNoLease, "Fence:");
}

#[test]
fn a_backup_that_is_published_before_it_is_copied_is_caught() {
    must_be_caught(Defect::PublishesThePlan, "Whole:");
}

#[test]
fn a_swap_that_is_not_in_the_ledger_is_caught() {
    must_be_caught(Defect::SwapsWithoutALedger, "Names:");
}

#[test]
fn a_run_that_is_forgotten_when_its_backup_begins_is_caught() {
    must_be_caught(Defect::ForgetsRuns, "Once:");
}

#[test]
fn a_job_that_ends_without_a_notice_is_caught() {
    must_be_caught(Defect::TellsNobody, "Told:");
}

#[test]
fn an_import_into_a_collection_that_has_rows_is_caught() {
    must_be_caught(Defect::ImportsAgainIntoTheSame, "Restored:");
}

#[test]
fn a_deletion_that_does_not_pass_on_ownership_is_caught() {
    must_be_caught(Defect::ForgetsHeirs, "Owned:");
}

#[test]
fn a_meter_that_does_not_record_what_it_metered_is_caught() {
    must_be_caught(Defect::MetersWithoutNoting, "Billed:");
}

#[test]
fn a_verification_that_trusts_the_answers_of_copies_is_caught() {
    must_be_caught(Defect::BelievesCopies, "Whole:");
}

#[test]
fn aliases_from_a_description_are_caught() {
    must_be_caught(Defect::BelievesDescriptions, "Aliases:");
}

#[test]
fn field_ids_assigned_by_position_are_caught() {
    must_be_caught(Defect::CountsFields, "Restored:");
}

#[test]
fn a_restore_that_does_not_give_grants_back_is_caught() {
    must_be_caught(Defect::GrantsNothing, "Grants:");
}

#[test]
fn a_restore_that_accepts_imports_without_rows_is_caught() {
    must_be_caught(Defect::BelievesImports, "Restored:");
}

#[test]
fn imports_that_bring_no_row_are_missed() {
    must_be_withstood(Defect::ImportsNothing, "restore FAILED");
}
