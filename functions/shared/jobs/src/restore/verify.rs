//! VERIFY: compares the rebuilt collections with the backup, before any live collection is touched.

use chrono::TimeDelta;
use milvault_model::{
    CollectionCapture, CollectionRestore, CollectionStage, FailureCode, Loaded, PrimaryKey, Reload, RowCount,
    TIME_TO_LIVE, Written,
};
use milvault_ports::MilvusError;

use super::{
    evidence::{Evidence, evidence},
    ledger::Concurrency,
    poll::Poll,
    shared::Shared,
    swap::require_swappable,
    work::Work,
};
use crate::{
    Error,
    engine::halt::{Halt, Step, fatal},
};

/// How long to wait until queries find the imported rows; observed on Milvus 2.3.5: up to 16 s.
const VISIBILITY_WAIT: TimeDelta = TimeDelta::seconds(120);

/// How long after its imports a collection's rows count as visible, if a slice is shorter than twice
/// [`VISIBILITY_WAIT`].
const VISIBLE_AFTER: TimeDelta = TimeDelta::minutes(10);

pub(crate) async fn verify(work: &mut Work<'_>) -> Step {
    work.for_each_active_line(Concurrency::Many, async |shared, line| verify_line(shared, line).await).await?;
    // Every collection is checked before the first is swapped.
    work.for_each_active_line(Concurrency::Many, async |shared, line| require_swappable(shared, &line).await).await?;
    work.begin_swap().await
}

async fn verify_line(shared: &Shared<'_>, mut line: CollectionRestore) -> Step {
    if let CollectionStage::Imported { id, rows, empty } = line.stage.clone() {
        compare(shared, &mut line, rows, &empty).await?;
        shared.enter(&mut line, CollectionStage::Compared { id }).await?;
    }
    let CollectionStage::Compared { id } = line.stage else { return Ok(()) };
    // From here on, rows may disappear because their time to live is over: they are not counted again.
    let capture = shared.capture(&line).await?;
    let ends: Vec<_> = capture.properties.iter().filter(|(key, _)| key == TIME_TO_LIVE).cloned().collect();
    if !ends.is_empty() {
        shared.watch(shared.milvus.set_properties(&shared.rebuilt(&line), &ends).await)?;
    }
    load_as_requested(shared, &line).await?;
    Ok(shared.enter(&mut line, CollectionStage::Verified { id }).await?)
}

/// Compares a rebuilt collection with the backup.
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
        let reason = format!("the backup has {rows} rows, the imports counted {imported}, and {found} are found");
        return fail(shared, line, reason).await;
    }
    if found == 0 && must_have_rows(&capture) {
        let reason = format!("the backup has {rows} rows and no deletes, but no row is found");
        return fail(shared, line, reason).await;
    }
    let sample = match capture.rows {
        RowCount::Exactly { .. } => capture.sample.clone(),
        RowCount::AtMost { .. } => match evidence(shared, line, &capture, empty).await? {
            Evidence::Rows { least, .. } if found < least => {
                let reason =
                    format!("the backup has at least {least} rows that nothing deletes, but {found} are found");
                return fail(shared, line, reason).await;
            }
            Evidence::Rows { sample, .. } => sample,
            Evidence::Missing { partition } => {
                let reason = "brought no row, but the backup has rows of it that nothing deletes";
                return fail(shared, line, format!("an import into partition {partition} {reason}")).await;
            }
            Evidence::Unknown(reason) => {
                let target = &line.target;
                shared.warn(format!("{target}: its rows could only be compared with its imports: {reason}"));
                return Ok(());
            }
        },
    };
    let sample: Vec<PrimaryKey> = sample.into_iter().filter(is_expressible).collect();
    if sample.is_empty() || countable == Countable::No {
        return Ok(());
    }
    let there = match shared.milvus.find_keys(&shared.rebuilt(line), &sample).await {
        // The server can refuse the query, for example if the field's name is a keyword of its expressions. The rows
        // were counted, so that the restore doesn't fail.
        Err(MilvusError::Refused(reason)) => {
            tracing::info!(reason, collection = %line.target, "the server refuses to query primary keys");
            shared.warn(format!("{}: its rows were counted, but its primary keys cannot be queried", line.target));
            return Ok(());
        }
        there => there?,
    };
    let missing = sample.iter().filter(|key| !there.contains(key)).count();
    if missing > 0 {
        let of = sample.len();
        return fail(shared, line, format!("{missing} of {of} primary keys from the backup are not found")).await;
    }
    Ok(())
}

/// Fails the verification of a line, after saving how many rows were found.
async fn fail(shared: &Shared<'_>, line: &CollectionRestore, reason: String) -> Step {
    shared.save(line).await?;
    Err(fatal(FailureCode::VerificationFailed, format!("{}: {reason}", line.target)))
}

/// Returns whether a Milvus expression can contain this key: Milvus parses a number without its sign, and the least
/// number is out of range without it.
fn is_expressible(key: &PrimaryKey) -> bool {
    *key != PrimaryKey::Int(i64::MIN)
}

/// Returns whether there must be rows even if they were never counted exactly: some were written before the point in
/// time, and the backup has no deletes.
fn must_have_rows(capture: &CollectionCapture) -> bool {
    let of_before = capture.segments.iter().any(|segment| segment.rows > 0 && segment.written == Written::Before);
    of_before && capture.delta_logs == Some(0)
}

/// Returns the number of rows that must be found: the count at the point in time if there is one, otherwise the number
/// of imported rows.
fn expected(capture: &CollectionCapture, imported: u64) -> u64 {
    match capture.rows {
        RowCount::Exactly { rows } => rows,
        RowCount::AtMost { .. } => imported,
    }
}

/// Whether a query can count a collection's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Countable {
    Yes,
    No,
}

/// Loads a whole collection, if the server can.
async fn load(shared: &Shared<'_>, line: &CollectionRestore, capture: &CollectionCapture) -> Step<Countable> {
    let name = &shared.rebuilt(line);
    let may_fail = capture.loaded == Loaded::No || !line.lost_indexes.is_empty();
    let whole = Loaded::Whole { replicas: replicas(&capture.loaded) };
    match shared.load(name, &whole, name).await {
        Ok(()) => Ok(Countable::Yes),
        // A collection that lacks an index can't be loaded. One that wasn't loaded before may be too large for the
        // server, which refuses at once or while it loads.
        Err(Halt::Error(Error::Milvus(MilvusError::Refused(reason)))) if may_fail => {
            tracing::info!(
                reason, collection = %name,
                "the collection cannot be loaded: its rows are counted by the imports"
            );
            shared.watch(shared.milvus.release(name).await)?;
            Ok(Countable::No)
        }
        Err(halt) => Err(halt),
    }
}

/// Counts the rows by queries until they find as many as expected or [`VISIBILITY_WAIT`] is over.
async fn count(shared: &Shared<'_>, line: &CollectionRestore, expected: u64) -> Step<u64> {
    let name = shared.rebuilt(line);
    let now = shared.now();
    let is_visible = line.since.is_some_and(|imported_at| now - imported_at > VISIBLE_AFTER);
    let until = match shared.slice < VISIBILITY_WAIT * 2 && is_visible {
        true => now,
        false => now + VISIBILITY_WAIT,
    };
    let mut found = 0;
    shared
        .wait_until(&format!("counting {name}"), async || {
            found = shared.milvus.count(&name).await?;
            // The number only grows.
            let is_over = found >= expected || shared.now() >= until;
            Ok(if is_over { Poll::Done } else { Poll::Pending(found) })
        })
        .await?;
    Ok(found)
}

/// Changes a collection from wholly loaded, for counting, to the requested state.
async fn load_as_requested(shared: &Shared<'_>, line: &CollectionRestore) -> Step {
    let name = shared.rebuilt(line);
    let requested = match shared.restore.reload {
        Reload::AsBefore => &line.loaded_before,
        Reload::None => &Loaded::No,
    };
    if matches!(requested, Loaded::Whole { .. }) {
        return Ok(());
    }
    shared.watch(shared.milvus.release(&name).await)?;
    if *requested == Loaded::No {
        return Ok(());
    }
    match shared.load(&name, requested, &line.target).await {
        Err(Halt::Error(Error::Milvus(MilvusError::Refused(reason)))) if !line.lost_indexes.is_empty() => {
            tracing::info!(
                reason, collection = %line.target,
                "the collection stays released, because it lacks an index"
            );
            shared.watch(shared.milvus.release(&name).await)
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
