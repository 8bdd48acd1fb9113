//! VERIFY: the rebuilt collections against the backup, before anything live is touched.

use std::time::Duration;

use milvault_model::{CollectionRestore, CollectionStage, FailureCode, Loaded, Reload};

use super::work::{Shared, Work};
use crate::slice::{Step, fatal};

/// Rows that were imported may be seen by queries only a while later; seen on Milvus 2.3.5: up to 16 s.
const SETTLING: Duration = Duration::from_secs(120);

pub(crate) async fn verify(work: &mut Work<'_>) -> Step {
    work.each_line(async |shared, line| verify_line(shared, line).await).await?;
    work.begin_swap().await
}

async fn verify_line(shared: &Shared<'_>, mut line: CollectionRestore) -> Step {
    let CollectionStage::Imported { id, rows } = line.stage else { return Ok(()) };
    let capture = shared.capture(&line).await?;
    let name = shared.rebuilt(&line);
    let milvus = &shared.milvus;

    let found = if capture.indexes.is_empty() && capture.loaded == Loaded::No {
        // What has no index can't be loaded, and so not be queried: the imports' own count is what there is.
        rows
    } else {
        milvus.load(&name, &Loaded::Whole { replicas: replicas(&capture.loaded) }).await?;
        let what = format!("loading {}", line.target);
        shared.wait_until(&what, async || Ok(milvus.is_loaded(&name).await?)).await?;
        let mut found = 0;
        let until = shared.jobs.ports.clock.now() + SETTLING;
        let what = format!("counting {}", line.target);
        shared
            .wait_until(&what, async || {
                found = milvus.count(&name).await?;
                Ok(found == rows || shared.jobs.ports.clock.now() > until)
            })
            .await?;
        found
    };
    line.rows_found = Some(found);
    if found != rows || !capture.rows.admits(found) {
        shared.save(&line).await?;
        return Err(fatal(
            FailureCode::VerificationFailed,
            format!(
                "{}: the backup has {} rows, the imports counted {rows}, queries find {found}",
                line.target,
                capture.rows.rows()
            ),
        ));
    }
    load_as_wanted(shared, &line).await?;
    line.stage = CollectionStage::Verified { id };
    Ok(shared.save(&line).await?)
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
    shared.milvus.release(&name).await?;
    if *wanted != Loaded::No {
        shared.milvus.load(&name, wanted).await?;
        let what = format!("loading {}", line.target);
        shared.wait_until(&what, async || Ok(shared.milvus.is_loaded(&name).await?)).await?;
    }
    Ok(())
}

fn replicas(loaded: &Loaded) -> i32 {
    match loaded {
        Loaded::No => 1,
        Loaded::Whole { replicas } | Loaded::Partitions { replicas, .. } => *replicas,
    }
}
