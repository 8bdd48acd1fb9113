//! The deployment's settings, from the function's environment variables.

use chrono::TimeDelta;
use milvault_jobs::{OBJECTS_PER_PAGE, Settings, ports::Bucket};
use milvault_model::Region;

use crate::ScheduleTarget;

/// How many server-side copies an invocation has in flight at most. Each is one small request on a connection of its
/// own, and Lambda gives an invocation 1,024 file descriptors.
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
    /// What the schedules of automatic backups are made of.
    pub schedules: ScheduleTarget,
    /// What the jobs are given.
    pub settings: Settings,
}

/// Why a function can't start.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// A variable isn't set.
    #[error("the environment variable {0} is missing")]
    Missing(&'static str),
    /// A variable's value isn't what it must be.
    #[error("the environment variable {name} is '{value}', not {wanted}")]
    Unusable {
        /// Which.
        name: &'static str,
        /// What it is.
        value: String,
        /// What it must be.
        wanted: &'static str,
    },
}

impl Environment {
    /// Reads the settings from variables.
    ///
    /// # Errors
    /// Naming the first variable that is missing or not usable.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, StartError> {
        let text = |name| variable(name).filter(|value| !value.is_empty()).ok_or(StartError::Missing(name));
        let number = |name, default, wanted| match text(name) {
            Err(_) => Ok(default),
            Ok(value) => match value.parse::<u32>() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(StartError::Unusable { name, value, wanted }),
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
            wanted: "an AWS region",
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
                snapshot_bucket: Bucket { region, name: text("SNAPSHOT_BUCKET")? },
                lease: seconds("JOB_LEASE_SECONDS", 60)?,
                stall: seconds("JOB_STALL_SECONDS", 600)?,
                import_stall: seconds("IMPORT_STALL_SECONDS", 300)?,
                objects_per_page: number("OBJECTS_PER_PAGE", 10_000, "a number of objects")?
                    .try_into()
                    .map_or(OBJECTS_PER_PAGE, |objects: usize| objects.min(OBJECTS_PER_PAGE)),
                copies_in_flight: COPIES_IN_FLIGHT,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: [(&str, &str); 9] = [
        ("AWS_REGION", "eu-west-1"),
        ("CATALOG_TABLE", "catalog"),
        ("SNAPSHOT_BUCKET", "snapshots"),
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
