//! The deployment's settings, from the function's environment variables.

use chrono::TimeDelta;
use milvault_jobs::{CursorKey, OBJECTS_PER_PAGE, Settings, SnapshotBuckets};
use milvault_model::{AllowedEndpoints, Prices, Region};
use milvault_ports::Bucket;

use crate::scheduler::ScheduleTarget;

/// The maximum number of server-side copies that an invocation has in progress. Each copy is one small request on its
/// own connection, and Lambda gives an invocation 1,024 file descriptors.
const COPIES_IN_FLIGHT: usize = 500;

/// The deployment's settings.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The catalog's table.
    pub catalog_table: String,
    /// The function that works on backups.
    pub create_backup_function: String,
    /// The function that works on restores.
    pub restore_function: String,
    /// The target of the schedules of automatic backups.
    pub schedules: ScheduleTarget,
    /// The deployment's region.
    pub region: Region,
    /// The endpoint of AWS's services, if it isn't the usual one.
    pub endpoint_url: Option<String>,
    /// How far the functions' clock is ahead; zero except in tests of a deployed stack.
    pub clock_ahead: TimeDelta,
    /// The settings of the jobs.
    pub settings: Settings,
}

/// The reason why a function can't start.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// A variable isn't set.
    #[error("the environment variable {0} is missing")]
    Missing(&'static str),
    /// A variable's value isn't valid.
    #[error("the environment variable {name} is '{value}', not {wanted}")]
    Unusable {
        /// The variable's name.
        name: &'static str,
        /// The variable's value.
        value: String,
        /// What the value has to be.
        wanted: String,
    },
}

impl Environment {
    /// Reads the settings from variables.
    ///
    /// # Errors
    /// Names the first variable that is missing or invalid.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, StartError> {
        let text = |name| variable(name).filter(|value| !value.is_empty()).ok_or(StartError::Missing(name));
        let number = |name, default, wanted: &str| match text(name) {
            Err(_) => Ok(default),
            Ok(value) => match value.parse::<u32>() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(StartError::Unusable { name, value, wanted: String::from(wanted) }),
            },
        };
        let seconds = |name, default| {
            let seconds = number(name, default, "a number of seconds")?;
            Ok::<_, StartError>(TimeDelta::seconds(seconds.into()))
        };
        let region = text("AWS_REGION")?;
        let region: Region = region.parse().map_err(|_| StartError::Unusable {
            name: "AWS_REGION",
            value: region,
            wanted: "an AWS region".to_owned(),
        })?;
        Ok(Self {
            catalog_table: text("CATALOG_TABLE")?,
            create_backup_function: text("CREATE_BACKUP_FUNCTION")?,
            restore_function: text("RESTORE_FUNCTION")?,
            schedules: ScheduleTarget {
                group: text("SCHEDULE_GROUP")?,
                function_arn: text("SCHEDULED_FUNCTION_ARN")?,
                role_arn: text("SCHEDULE_ROLE_ARN")?,
                dead_letters_arn: text("SCHEDULE_DEAD_LETTERS_ARN")?,
            },
            settings: Settings {
                snapshots: SnapshotBuckets::new(
                    Bucket { region: region.clone(), name: text("SNAPSHOT_BUCKET")? },
                    text("SNAPSHOT_BUCKETS").map_or(Ok(Vec::new()), buckets)?,
                ),
                endpoints: endpoints(text("ALLOWED_ENDPOINTS")?)?,
                cursor_key: CursorKey::new(text("CURSOR_KEY")?),
                billing_account: text("BILLING_ACCOUNT").unwrap_or_default(),
                prices: text("PRICES").map_or(Ok(Prices::default()), prices)?,
                lease: seconds("JOB_LEASE_SECONDS", 60)?,
                stall: seconds("JOB_STALL_SECONDS", 600)?,
                import_stall: seconds("IMPORT_STALL_SECONDS", 300)?,
                imports_in_flight: number("IMPORTS_IN_FLIGHT", 32, "a number of segments")?
                    .try_into()
                    .unwrap_or(1)
                    .max(1),
                objects_per_page: number("OBJECTS_PER_PAGE", 10_000, "a number of objects")?
                    .try_into()
                    .map_or(OBJECTS_PER_PAGE, |objects: usize| objects.min(OBJECTS_PER_PAGE)),
                copies_in_flight: COPIES_IN_FLIGHT,
            },
            endpoint_url: text("AWS_ENDPOINT_URL").ok(),
            clock_ahead: seconds("CLOCK_AHEAD_SECONDS", 0)?,
            region,
        })
    }
}

/// Parses `region=bucket,region=bucket`.
fn buckets(text: String) -> Result<Vec<Bucket>, StartError> {
    let bucket = |part: &str| {
        let (region, name) = part.trim().split_once('=')?;
        Some(Bucket { region: region.parse().ok()?, name: Some(name).filter(|name| !name.is_empty())?.to_owned() })
    };
    let buckets: Option<Vec<_>> = text.split(',').map(bucket).collect();
    buckets.ok_or(StartError::Unusable {
        name: "SNAPSHOT_BUCKETS",
        value: text,
        wanted: "region=bucket,...".to_owned(),
    })
}

/// Parses a list of [`AllowedEndpoints`].
fn endpoints(text: String) -> Result<AllowedEndpoints, StartError> {
    text.parse().map_err(|error: milvault_model::Invalid| StartError::Unusable {
        name: "ALLOWED_ENDPOINTS",
        value: text,
        wanted: format!("a list of hosts and networks, or *: {error}"),
    })
}

/// Parses a JSON list of [`milvault_model::Price`]s.
fn prices(text: String) -> Result<Prices, StartError> {
    serde_json::from_str(&text).map_err(|error| StartError::Unusable {
        name: "PRICES",
        value: text,
        wanted: format!("a list of prices: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: [(&str, &str); 11] = [
        ("AWS_REGION", "eu-west-1"),
        ("ALLOWED_ENDPOINTS", "10.0.0.0/8"),
        ("CATALOG_TABLE", "catalog"),
        ("SNAPSHOT_BUCKET", "snapshots"),
        ("CURSOR_KEY", "7d9c1fe0"),
        ("CREATE_BACKUP_FUNCTION", "create-backup"),
        ("RESTORE_FUNCTION", "restore"),
        ("SCHEDULE_GROUP", "milvault"),
        ("SCHEDULED_FUNCTION_ARN", "arn:aws:lambda:eu-west-1:123456789012:function:create-backup"),
        ("SCHEDULE_ROLE_ARN", "arn:aws:iam::123456789012:role/schedules"),
        ("SCHEDULE_DEAD_LETTERS_ARN", "arn:aws:sqs:eu-west-1:123456789012:dead-letters"),
    ];

    fn read(variables: &[(&str, &str)]) -> Result<Environment, StartError> {
        Environment::read(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string()))
    }

    #[test]
    fn a_missing_variable_is_named() {
        for (missing, _) in WHOLE {
            let rest: Vec<_> = WHOLE.into_iter().filter(|(name, _)| *name != missing).collect();
            let error = read(&rest).unwrap_err();
            assert!(matches!(error, StartError::Missing(name) if name == missing), "{error}");
        }
    }

    #[test]
    fn buckets_in_other_regions_and_prices_are_read_and_what_is_wrong_with_them_is_said() {
        let settings = read(&WHOLE).unwrap().settings;
        assert_eq!((settings.snapshots.iter().count(), settings.prices), (1, Prices::default()));
        let with = |name, value| read(&[WHOLE.as_slice(), &[(name, value)]].concat());

        let settings = with("SNAPSHOT_BUCKETS", "us-east-1=there, eu-west-1=never").unwrap().settings;
        let found: Vec<_> = settings.snapshots.iter().map(|bucket| bucket.name.as_str()).collect();
        assert_eq!(found, ["snapshots", "there"], "the deployment's own region has the deployment's own bucket");
        for bad in ["us-east-1", "us-east-1=", "=bucket", "US East=bucket", "us-east-1=a,,"] {
            assert!(with("SNAPSHOT_BUCKETS", bad).unwrap_err().to_string().contains("SNAPSHOT_BUCKETS"), "{bad}");
        }

        let price = r#"[{"region": "eu-west-1", "from": "2026-01-01", "currency": "EUR", "storageGibHour": "0.1"}]"#;
        assert_ne!(with("PRICES", price).unwrap().settings.prices, Prices::default());
        for bad in ["{}", "[1]", &price.replace("EUR", "euro"), &price.replace("\"0.1\"", "0.1")] {
            assert!(with("PRICES", bad).unwrap_err().to_string().contains("PRICES"), "{bad}");
        }
    }

    #[test]
    fn lease_and_stall_have_defaults_and_must_be_seconds() {
        let settings = read(&WHOLE).unwrap().settings;
        assert_eq!((settings.lease, settings.stall), (TimeDelta::seconds(60), TimeDelta::seconds(600)));
        let with = |value| read(&[WHOLE.as_slice(), &[("JOB_LEASE_SECONDS", value)]].concat());
        assert_eq!(with("5").unwrap().settings.lease, TimeDelta::seconds(5));
        for bad in ["0", "-1", "a minute"] {
            assert!(with(bad).unwrap_err().to_string().contains("JOB_LEASE_SECONDS"), "{bad}");
        }
    }
}
