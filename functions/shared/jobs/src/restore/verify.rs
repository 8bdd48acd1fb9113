//! VERIFY: the rebuilt collections against the backup, before anything live is touched.

use chrono::TimeDelta;
use milvault_model::{
    CollectionCapture, CollectionRestore, CollectionStage, FailureCode, Loaded, PrimaryKey, Reload, RowCount,
    TIME_TO_LIVE, Written,
};
use milvault_ports::MilvusError;

use super::{
    ledger::AtOnce,
    poll::Wait,
    shared::Shared,
    swap::swappable,
    witnesses::{Evidence, evidence},
    work::Work,
};
use crate::{
    Error,
    engine::halt::{Halt, Step, fatal},
};

/// Rows that were imported may be seen by queries only a while later; seen on Milvus 2.3.5: up to 16 s.
const SETTLING: TimeDelta = TimeDelta::seconds(120);

/// So long after its imports a collection has settled, if a slice has less time than [`SETTLING`].
const SETTLED: TimeDelta = TimeDelta::minutes(10);

pub(crate) async fn verify(work: &mut Work<'_>) -> Step {
    work.each_wanted(AtOnce::Many, async |shared, line| verify_line(shared, line).await).await?;
    // Whatever stands in the way of one is found before the first is swapped.
    work.each_wanted(AtOnce::Many, async |shared, line| swappable(shared, &line).await).await?;
    work.begin_swap().await
}

async fn verify_line(shared: &Shared<'_>, mut line: CollectionRestore) -> Step {
    if let CollectionStage::Imported { id, rows, empty } = line.stage.clone() {
        compare(shared, &mut line, rows, &empty).await?;
        shared.enter(&mut line, CollectionStage::Compared { id }).await?;
    }
    let CollectionStage::Compared { id } = line.stage else { return Ok(()) };
    // From here on, rows may be gone because their time is over: they are not counted again.
    let capture = shared.capture(&line).await?;
    let ends: Vec<_> = capture.properties.iter().filter(|(key, _)| key == TIME_TO_LIVE).cloned().collect();
    if !ends.is_empty() {
        shared.sure(shared.milvus.set_properties(&shared.rebuilt(&line), &ends).await)?;
    }
    load_as_wanted(shared, &line).await?;
    Ok(shared.enter(&mut line, CollectionStage::Verified { id }).await?)
}

/// Compares what was rebuilt with the backup.
async fn compare(shared: &Shared<'_>, line: &mut CollectionRestore, imported: u64, empty: &[u32]) -> Step {
    let capture = shared.capture(line).await?;
    let countable = load(shared, line, &capture).await?;
    let found = match countable {
        Countable::Yes => count(shared, line, expected(&capture, imported)).await?,
        Countable::No => imported,
    };
    line.rows_found = Some(found);
    let rows = capture.rows.rows();
    if found != expected(&capture, imported) || !capture.rows.admits(found) {
        let what = format!("the backup has {rows} rows, the imports counted {imported}, {found} are found");
        return fail(shared, line, what).await;
    }
    if found == 0 && must_have_rows(&capture) {
        let what = format!("the backup has {rows} rows and no deletes of them, and none is found");
        return fail(shared, line, what).await;
    }
    let sample = match capture.rows {
        RowCount::Exactly { .. } => capture.sample.clone(),
        RowCount::AtMost { .. } => match evidence(shared, line, &capture, empty).await? {
            Evidence::Rows { least, .. } if found < least => {
                let what = "because the backup has them and no delete of them";
                let what = format!("at least {least} rows must be there, {what}, and {found} are found");
                return fail(shared, line, what).await;
            }
            Evidence::Rows { sample, .. } => sample,
            Evidence::Missing { partition } => {
                let what = "brought no row, and the backup has rows of it and no delete of them";
                return fail(shared, line, format!("an import into partition {partition} {what}")).await;
            }
            Evidence::Unknown(reason) => {
                let target = &line.target;
                shared.warn(format!("{target}: only its imports say how many rows there must be: {reason}"));
                return Ok(());
            }
        },
    };
    let sample: Vec<PrimaryKey> = sample.into_iter().filter(can_be_said).collect();
    if sample.is_empty() || countable == Countable::No {
        return Ok(());
    }
    let there = match shared.milvus.find_keys(&shared.rebuilt(line), &sample).await {
        // The field's name is a word of the language, for instance. The rows are counted: the check loses no restore.
        Err(MilvusError::Refused(reason)) => {
            tracing::info!(reason, collection = %line.target, "primary keys can't be asked for");
            shared.warn(format!("{}: its rows were counted, and its primary keys can't be asked for", line.target));
            return Ok(());
        }
        there => there?,
    };
    let missing = sample.iter().filter(|key| !there.contains(key)).count();
    if missing > 0 {
        let of = sample.len();
        return fail(shared, line, format!("{missing} of {of} primary keys that the backup names are not found")).await;
    }
    Ok(())
}

/// Fails because of what a line lacks; how many rows were found is written down.
async fn fail(shared: &Shared<'_>, line: &CollectionRestore, what: String) -> Step {
    shared.save(line).await?;
    Err(fatal(FailureCode::VerificationFailed, format!("{}: {what}", line.target)))
}

/// Whether an expression can have this key: Milvus reads a number's sign apart from it, and the least one is too large
/// without its sign.
fn can_be_said(key: &PrimaryKey) -> bool {
    *key != PrimaryKey::Int(i64::MIN)
}

/// Whether there must be rows, also where they were never counted exactly: some are of before the point in time, and
/// nothing in the backup deletes any.
fn must_have_rows(capture: &CollectionCapture) -> bool {
    let of_before = capture.segments.iter().any(|segment| segment.rows > 0 && segment.written == Written::Before);
    of_before && capture.delta_logs == Some(0)
}

/// The rows that must be found: those of the point in time where they were counted then, otherwise what was imported.
fn expected(capture: &CollectionCapture, imported: u64) -> u64 {
    match capture.rows {
        RowCount::Exactly { rows } => rows,
        RowCount::AtMost { .. } => imported,
    }
}

/// Whether a collection's rows can be counted by a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Countable {
    Yes,
    No,
}

/// Loads all of a collection, if it can be.
async fn load(shared: &Shared<'_>, line: &CollectionRestore, capture: &CollectionCapture) -> Step<Countable> {
    let name = &shared.rebuilt(line);
    let may_fail = capture.loaded == Loaded::No || !line.lost_indexes.is_empty();
    let whole = Loaded::Whole { replicas: replicas(&capture.loaded) };
    match shared.load(name, &whole, name).await {
        Ok(()) => Ok(Countable::Yes),
        // A collection that lacks an index can't be loaded, and one that wasn't may be too large for the server, which
        // says so at once or while it loads.
        Err(Halt::Error(Error::Milvus(MilvusError::Refused(reason)))) if may_fail => {
            tracing::info!(reason, collection = %name, "counted by its imports: it can't be loaded");
            shared.sure(shared.milvus.release(name).await)?;
            Ok(Countable::No)
        }
        Err(halt) => Err(halt),
    }
}

/// The rows that queries find, once they find as many as are expected or the time for that is over.
async fn count(shared: &Shared<'_>, line: &CollectionRestore, expected: u64) -> Step<u64> {
    let name = shared.rebuilt(line);
    let now = shared.now();
    let has_settled = line.since.is_some_and(|imported_at| now - imported_at > SETTLED);
    let until = match shared.slice < SETTLING * 2 && has_settled {
        true => now,
        false => now + SETTLING,
    };
    let mut found = 0;
    shared
        .wait_until(&format!("counting {name}"), async || {
            found = shared.milvus.count(&name).await?;
            // They only become more.
            let is_over = found >= expected || shared.now() >= until;
            Ok(if is_over { Wait::Over } else { Wait::Further(found) })
        })
        .await?;
    Ok(found)
}

/// From loaded wholly, for counting, to what the user gets.
async fn load_as_wanted(shared: &Shared<'_>, line: &CollectionRestore) -> Step {
    let name = shared.rebuilt(line);
    let wanted = match shared.restore.reload {
        Reload::AsBefore => &line.loaded_before,
        Reload::None => &Loaded::No,
    };
    if matches!(wanted, Loaded::Whole { .. }) {
        return Ok(());
    }
    shared.sure(shared.milvus.release(&name).await)?;
    if *wanted == Loaded::No {
        return Ok(());
    }
    match shared.load(&name, wanted, &line.target).await {
        Err(Halt::Error(Error::Milvus(MilvusError::Refused(reason)))) if !line.lost_indexes.is_empty() => {
            tracing::info!(reason, collection = %line.target, "it stays released: it lacks an index");
            shared.sure(shared.milvus.release(&name).await)
        }
        loaded => loaded,
    }
}

fn replicas(loaded: &Loaded) -> i32 {
    match loaded {
        Loaded::No => 1,
        Loaded::Whole { replicas } | Loaded::Partitions { replicas, .. } => *replicas,
    }
}
