//! Puts the adapters of DynamoDB and S3 through the conformance suite, against AWS or what stands in for it.
//!
//! One line per case; the exit code is 1 if any promise isn't kept. It uses ids and keys of its own and removes its
//! objects, but not its records.
//!
//! From the environment, besides what every AWS SDK reads (`AWS_REGION`, `AWS_ENDPOINT_URL`, credentials):
//! - `CATALOG_TABLE`: a table made as in the template;
//! - `SOURCE_BUCKET`, `DESTINATION_BUCKET`: two buckets in the region;
//! - `LOCKED_BUCKET`: a third one, with Object Lock in governance mode for a day;
//! - `LACKING`: what the endpoint is known not to do, by commas. Such cases are run all the same, and have to fail.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    env,
    process::ExitCode,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use milvault_dynamodb::DynamoCatalog;
use milvault_harness::conformance::{
    Capability, Case, Outcome, Report,
    catalog::{self, CatalogFixture},
    objects::{self, ObjectsFixture},
    run,
};
use milvault_model::Region;
use milvault_ports::{Bucket, Objects};
use milvault_s3::{Parts, S3Objects};

/// S3 takes no smaller parts, but for the last.
const LEAST_PART: u64 = 5 << 20;

#[tokio::main]
async fn main() -> ExitCode {
    // A broken promise is reported on its case's line.
    std::panic::set_hook(Box::new(|_| {}));
    let https = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let config = aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(https).load().await;
    let Some(region) = config.region().map(ToString::to_string) else {
        eprintln!("AWS_REGION isn't set");
        return ExitCode::FAILURE;
    };
    let (table, source, destination, locked, lacking) = match settings() {
        Ok(settings) => settings,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::FAILURE;
        }
    };

    let region: Region = region.parse().expect("the SDK's region is a region");
    let bucket = |name: String| Bucket { region: region.clone(), name };
    let seed = UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
    let mut all_fine = true;

    let catalog = Arc::new(DynamoCatalog::new(aws_sdk_dynamodb::Client::new(&config), table));
    all_fine &= run_all("catalog", catalog::cases(), &CatalogFixture::new(catalog, seed), &lacking).await;

    let whole = S3Objects::new({
        let config = config.clone();
        move |_| s3_client(&config)
    });
    let in_parts = S3Objects::new(move |_| s3_client(&config)).with_parts(Parts {
        above: 0,
        size: LEAST_PART,
        ..Parts::default()
    });
    // What CopyObject lacks, completing an upload in parts doesn't.
    let suites: [(&str, Arc<dyn Objects>, &[Capability]); 2] =
        [("objects", Arc::new(whole), &lacking), ("objects, in parts", Arc::new(in_parts), &[])];
    for (suite, objects, lacking) in suites {
        let fixture = ObjectsFixture {
            objects,
            source: bucket(source.clone()),
            destination: bucket(destination.clone()),
            locked: bucket(locked.clone()),
            missing: bucket(format!("milvault-missing-{seed}")),
            prefix: format!("conformance-{seed}/{suite}"),
        };
        all_fine &= run_all(suite, objects::CASES, &fixture, lacking).await;
        fixture.clean_up().await;
    }
    if all_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn settings() -> Result<(String, String, String, String, Vec<Capability>), String> {
    let set = |name: &str| env::var(name).map_err(|_| format!("{name} isn't set"));
    let lacking = env::var("LACKING").unwrap_or_default();
    let lacking = lacking.split(',').filter(|name| !name.is_empty()).map(str::parse).collect::<Result<_, _>>()?;
    let [table, source, destination, locked] =
        ["CATALOG_TABLE", "SOURCE_BUCKET", "DESTINATION_BUCKET", "LOCKED_BUCKET"].map(set);
    Ok((table?, source?, destination?, locked?, lacking))
}

fn s3_client(config: &SdkConfig) -> aws_sdk_s3::Client {
    // An endpoint of one's own has no host name per bucket.
    let path_style = config.endpoint_url().is_some();
    aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(config).force_path_style(path_style).build())
}

async fn run_all<F: 'static>(
    suite: &str,
    cases: impl IntoIterator<Item = &'static Case<F>>,
    fixture: &F,
    lacking: &[Capability],
) -> bool {
    let mut all_fine = true;
    for case in cases {
        let begun = SystemTime::now();
        let report = run(case, fixture, lacking).await;
        let seconds = begun.elapsed().unwrap_or_default().as_secs_f32();
        println!("{} [{suite}] {} ({seconds:.1} s){}", verdict(&report), report.name, remark(&report));
        all_fine &= report.is_fine();
    }
    all_fine
}

fn verdict(report: &Report) -> &'static str {
    match report.outcome {
        Outcome::Kept => "kept   ",
        Outcome::Lacking(_) => "lacking",
        Outcome::Broken(_) | Outcome::NotLacking(_) => "BROKEN ",
    }
}

fn remark(report: &Report) -> String {
    match &report.outcome {
        Outcome::Kept => String::new(),
        Outcome::Lacking(capability) => format!(": not kept, for want of {capability:?}, as declared"),
        Outcome::NotLacking(capability) => format!(": kept, though {capability:?} is declared to be lacking"),
        Outcome::Broken(found) => format!(": {found}"),
    }
}
